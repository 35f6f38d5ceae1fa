//! `[server]`: where the service listens and how it stops.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use super::error::ConfigError;
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
    /// Whose pages may call the API: origins, or `*`; an empty list is nobody's.
    #[serde(deserialize_with = "value::list")]
    pub cors_origins: Vec<String>,
    /// `[server.tls]`.
    pub tls: TlsConfig,
}

/// `[server.tls]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The file of the certificate, with those that lead to its root behind it, in PEM.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub cert: Option<String>,
    /// The file of its private key, in PEM.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub key: Option<String>,
}

impl ServerConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let sound = |origin: &String| {
            origin == "*"
                || Url::parse(origin).is_ok_and(|url| {
                    url.has_host() && url.origin().ascii_serialization() == *origin
                })
        };
        if !self.cors_origins.iter().all(sound) {
            let takes = "takes a list of origins such as https://app.example.com, or \"*\"";
            return Err(ConfigError::new("server.cors_origins", takes));
        }
        match (&self.tls.cert, &self.tls.key) {
            (Some(_), None) => {
                Err(ConfigError::new("server.tls.key", "takes the key of server.tls.cert"))
            }
            (None, Some(_)) => {
                Err(ConfigError::new("server.tls.cert", "takes the certificate of server.tls.key"))
            }
            _ => Ok(()),
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            shutdown_timeout: ConfigDuration::from_secs(30),
            cors_origins: Vec::new(),
            tls: TlsConfig::default(),
        }
    }
}

/// Reads an address with its port.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    value::parsed(deserializer, "an address such as 127.0.0.1:8080", |text| text.parse().ok())
}
