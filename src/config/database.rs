//! `[database]`: where the rows live.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use super::error::ConfigError;
use super::value::{self, ConfigDuration, MASK};

const TAKES: &str =
    "a URL such as sqlite://data/upload-coordinator.db or postgres://user:password@host/database";

/// `[database]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// `sqlite://...` or `postgres://...`.
    pub url: DatabaseUrl,
    /// The most connections that one process holds.
    #[serde(deserialize_with = "value::number")]
    pub max_connections: u32,
    /// How long a writer waits for another one (SQLite).
    pub busy_timeout: ConfigDuration,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: DatabaseUrl(SecretString::from("sqlite://data/upload-coordinator.db?mode=rwc")),
            max_connections: 10,
            busy_timeout: ConfigDuration::from_secs(5),
        }
    }
}

impl DatabaseConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.max_connections == 0 {
            return Err(ConfigError::new("database.max_connections", "takes at least 1, not 0"));
        }
        Ok(())
    }
}

/// A database's URL; its password shows nowhere but in [`Self::expose`].
#[derive(Clone)]
pub struct DatabaseUrl(SecretString);

impl DatabaseUrl {
    /// Checks and takes a URL.
    pub fn parse(text: &str) -> Option<Self> {
        let known = ["sqlite:", "postgres://", "postgresql://"];
        let rest = known.iter().find_map(|scheme| text.strip_prefix(scheme))?;
        let sound = if text.starts_with("sqlite:") {
            !rest.trim_start_matches('/').is_empty()
        } else {
            Url::parse(text).is_ok_and(|url| url.has_host())
        };
        sound.then(|| Self(SecretString::from(text)))
    }

    /// The URL with its password, for the driver alone.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether it is SQLite's rather than PostgreSQL's.
    pub fn is_sqlite(&self) -> bool {
        self.expose().starts_with("sqlite:")
    }

    /// The URL with its passwords masked.
    pub fn masked(&self) -> String {
        let text = self.expose();
        if self.is_sqlite() {
            return text.to_owned();
        }
        // `parse` let only URLs through.
        let Ok(mut url) = Url::parse(text) else { return MASK.to_owned() };
        if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
            return MASK.to_owned();
        }
        let secret = |name: &str| name.to_ascii_lowercase().contains("password");
        if url.query_pairs().any(|(name, _)| secret(&name)) {
            let pairs: Vec<(String, String)> = url
                .query_pairs()
                .map(|(name, value)| {
                    let value = if secret(&name) { MASK.to_owned() } else { value.into_owned() };
                    (name.into_owned(), value)
                })
                .collect();
            url.query_pairs_mut().clear().extend_pairs(pairs);
        }
        url.into()
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `parsed` by itself: its error would show the URL with the password.
        let parsed = value::parsed(deserializer, TAKES, |text| Some(Self::parse(text)))?;
        parsed.ok_or_else(|| serde::de::Error::custom(format_args!("takes {TAKES}")))
    }
}
