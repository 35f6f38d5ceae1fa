//! `[events]`: bucket events as hints.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::value;

/// Guessing a shorter one over the network is not out of the question.
const MIN_TOKEN_LEN: usize = 16;

/// `[events]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// What senders of `POST /api/events/s3` show; without one the route is off.
    #[serde(deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub token: Option<SecretString>,
}

impl EventsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let token = self.token.as_ref().map(ExposeSecret::expose_secret);
        if token.is_some_and(|token| {
            token.len() < MIN_TOKEN_LEN || !token.bytes().all(|b| b.is_ascii_graphic())
        }) {
            let takes = format!("takes {MIN_TOKEN_LEN} or more printable ASCII characters");
            return Err(ConfigError::new("events.token", takes));
        }
        Ok(())
    }
}
