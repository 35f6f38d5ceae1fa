//! `[direct_upload]`: uploads through the service, for clients that can't reach the store.

use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::value::{self, ConfigSize};
use crate::domain::limits::{MAX_PUT_SIZE, MIN_PART_SIZE};

/// `[direct_upload]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DirectUploadConfig {
    /// Whether files may be uploaded through the service.
    #[serde(deserialize_with = "value::flag")]
    pub enabled: bool,
    /// The size of the parts in which a file is sent to the store. Each upload holds about one part
    /// in memory.
    pub part_size: ConfigSize,
    /// The smallest number of bytes per second of each file, averaged over
    /// `limits.request_timeout`. 0 means no limit.
    pub min_rate: ConfigSize,
}

impl Default for DirectUploadConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            part_size: ConfigSize::from_mib(5),
            min_rate: ConfigSize::from_bytes(1024),
        }
    }
}

impl DirectUploadConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        value::in_range(self.part_size, MIN_PART_SIZE, MAX_PUT_SIZE)
            .map_err(|problem| ConfigError::new("direct_upload.part_size", problem))
    }
}
