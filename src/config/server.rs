//! `[server]`: the address, TLS, CORS and shutdown of the HTTP server.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use super::error::ConfigError;
use super::value::{self, ConfigDuration};
use crate::domain::origin::is_origin;

/// `[server]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// The address to listen on; port 0 picks a free one.
    #[serde(deserialize_with = "address")]
    pub bind: SocketAddr,
    /// How long `serve` waits at the start for the database and the stores.
    pub start_timeout: ConfigDuration,
    /// The URL of this service for clients, if a proxy or a load balancer is in front of it. URLs
    /// in responses begin with it.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub public_url: Option<String>,
    /// How long requests in progress can continue after the listener is closed.
    pub shutdown_timeout: ConfigDuration,
    /// How long the service still accepts new requests after the signal to stop. During this time
    /// `readyz` fails, so that a load balancer stops sending requests.
    pub drain_delay: ConfigDuration,
    /// The origins whose web pages may call the API. `*` means all, an empty list means none.
    #[serde(deserialize_with = "value::list")]
    pub cors_origins: Vec<String>,
    /// Whether new uploads are refused under a policy whose bucket has no marker of this database.
    /// `None` means yes in `serve` and no in `dev`.
    #[serde(deserialize_with = "value::auto_flag", serialize_with = "value::auto_flag_text")]
    pub require_marker: Option<bool>,
    /// `[server.tls]`.
    pub tls: TlsConfig,
}

/// `[server.tls]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The PEM file of the certificate, followed by its intermediate certificates.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub cert: Option<String>,
    /// The PEM file of its private key.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub key: Option<String>,
}

impl ServerConfig {
    /// The public URL without a slash at its end; empty if there is none.
    pub fn public_url(&self) -> String {
        self.public_url.as_deref().unwrap_or_default().trim_end_matches('/').to_owned()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some(given) = self.cors_origins.iter().find(|origin| !is_origin(origin)) {
            let problem = format!(
                "must be a list of origins such as https://app.example.com, or \"*\", not \"{given}\""
            );
            return Err(ConfigError::new("server.cors_origins", problem));
        }
        if let Some(url) = self.public_url.as_deref().filter(|url| !is_base(url)) {
            let problem =
                format!("must be a URL such as https://uploads.example.com, not \"{url}\"");
            return Err(ConfigError::new("server.public_url", problem));
        }
        match (&self.tls.cert, &self.tls.key) {
            (Some(_), None) => Err(ConfigError::new(
                "server.tls.key",
                "must be set to the private key of server.tls.cert",
            )),
            (None, Some(_)) => Err(ConfigError::new(
                "server.tls.cert",
                "must be set to the certificate of server.tls.key",
            )),
            _ => Ok(()),
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            start_timeout: ConfigDuration::from_secs(60),
            public_url: None,
            shutdown_timeout: ConfigDuration::from_secs(30),
            drain_delay: ConfigDuration::from_secs(0),
            cors_origins: Vec::new(),
            require_marker: None,
            tls: TlsConfig::default(),
        }
    }
}

/// Whether a path can be appended to a URL.
fn is_base(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

/// Parses an address with its port.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    value::parsed(deserializer, "an address such as 127.0.0.1:8080", |text| text.parse().ok())
}
