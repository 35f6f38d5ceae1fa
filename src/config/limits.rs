//! `[limits]`: limits for a request and for an owner.

use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::value::{self, ConfigDuration, ConfigSize};

/// The largest limit for JSON bodies, in bytes. A body is read into memory.
const MAX_JSON_BODY: u64 = 64 << 20;

/// `[limits]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// The largest JSON body.
    pub json_body: ConfigSize,
    /// The time limit for a client to send a request's headers.
    pub request_timeout: ConfigDuration,
    /// The largest number of concurrent long polls and event streams.
    #[serde(deserialize_with = "value::number")]
    pub waiters: usize,
    /// The largest number of concurrent long polls and event streams of one owner; 0 means no
    /// limit.
    #[serde(deserialize_with = "value::number")]
    pub waiters_per_owner: usize,
    /// The largest number of concurrent direct uploads; 0 means no limit.
    #[serde(deserialize_with = "value::number")]
    pub direct_uploads: usize,
    /// The largest number of concurrent direct uploads of one owner; 0 means no limit.
    #[serde(deserialize_with = "value::number")]
    pub direct_uploads_per_owner: usize,
    /// The largest number of requests per second of one owner; 0 means no limit.
    #[serde(deserialize_with = "value::number")]
    pub requests_per_second: u32,
    /// The burst: the number of requests that one owner can send at once after a pause. 0 means the
    /// same number as `requests_per_second`.
    #[serde(deserialize_with = "value::number")]
    pub burst: u32,
    /// The largest number of pending uploads of one owner; 0 means no limit.
    #[serde(deserialize_with = "value::number")]
    pub pending_uploads: u64,
    /// The largest total size of the pending uploads of one owner; "0B" means no limit.
    pub pending_bytes: ConfigSize,
    /// The largest number of uploads that one owner can create within 24 hours; 0 means no limit.
    #[serde(deserialize_with = "value::number")]
    pub uploads_per_day: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            json_body: ConfigSize::from_bytes(64 << 10),
            request_timeout: ConfigDuration::from_secs(30),
            waiters: 10_000,
            waiters_per_owner: 1000,
            direct_uploads: 256,
            direct_uploads_per_owner: 64,
            requests_per_second: 0,
            burst: 0,
            pending_uploads: 0,
            pending_bytes: ConfigSize::from_bytes(0),
            uploads_per_day: 0,
        }
    }
}

impl LimitsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fail = |key: &str, problem| Err(ConfigError::new(format!("limits.{key}"), problem));
        if let Err(problem) = value::in_range(self.json_body, 1 << 10, MAX_JSON_BODY) {
            return fail("json_body", problem);
        }
        if self.request_timeout.get().is_zero() {
            return fail("request_timeout", "must be a duration above zero".to_owned());
        }
        Ok(())
    }
}
