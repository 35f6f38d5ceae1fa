//! `[server]`: where the service listens and how it stops.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer, Serialize};

use super::value::{self, ConfigDuration};

/// `[server]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Where to listen; port 0 picks a free one.
    #[serde(deserialize_with = "address")]
    pub bind: SocketAddr,
    /// How long requests under way may take to finish once the service is told to stop.
    pub shutdown_timeout: ConfigDuration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            shutdown_timeout: ConfigDuration::from_secs(30),
        }
    }
}

/// Reads an address with its port.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    value::parsed(deserializer, "an address such as 127.0.0.1:8080", |text| text.parse().ok())
}
