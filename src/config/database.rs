//! `[database]`: the database.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use super::error::ConfigError;
use super::value::{self, ConfigDuration, MASK};

/// The accepted values of `database.url`.
const EXPECTED: &str =
    "a URL such as sqlite://data/upload-coordinator.db or postgres://user:password@host/database";

/// `[database]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// `sqlite://...` or `postgres://...`.
    pub url: DatabaseUrl,
    /// The largest number of connections of one process.
    #[serde(deserialize_with = "value::number")]
    pub max_connections: u32,
    /// How long a writer waits for another writer (SQLite).
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
            return Err(ConfigError::new("database.max_connections", "must be at least 1, not 0"));
        }
        Ok(())
    }
}

const UNESCAPED: &str = "has an unescaped character in the user, the password or the query; \
                         write / as %2F, ? as %3F, # as %23 and @ as %40";

/// Whether the user or the password contains an unescaped character that ends it. The end of the
/// password would then be parsed as a path or a query, which is not masked. An unescaped `@` in the
/// query looks the same and is refused too. `remaining` is the text after `scheme://`.
fn has_unescaped_userinfo(remaining: &str) -> bool {
    remaining.rsplit_once('@').is_some_and(|(userinfo, _)| userinfo.contains(['/', '?', '#']))
}

/// The URL of a database. Only [`Self::expose`] returns its password.
#[derive(Clone)]
pub struct DatabaseUrl(SecretString);

impl DatabaseUrl {
    /// Parses a URL. The error says what is wrong without any part of the URL.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = || format!("must be {EXPECTED}");
        let known = ["sqlite:", "postgres://", "postgresql://"];
        let remaining =
            known.iter().find_map(|scheme| text.strip_prefix(scheme)).ok_or_else(invalid)?;
        if text.starts_with("sqlite:") {
            if remaining.trim_start_matches('/').is_empty() {
                return Err(invalid());
            }
        } else {
            if has_unescaped_userinfo(remaining) {
                return Err(UNESCAPED.to_owned());
            }
            Url::parse(text).ok().filter(Url::has_host).ok_or_else(invalid)?;
        }
        Ok(Self(SecretString::from(text)))
    }

    /// The URL with its password, for the driver only.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether the database is SQLite, and not PostgreSQL.
    pub fn is_sqlite(&self) -> bool {
        self.expose().starts_with("sqlite:")
    }

    /// The URL with masked passwords.
    pub fn masked(&self) -> String {
        let text = self.expose();
        if self.is_sqlite() {
            return text.to_owned();
        }
        // `parse` accepts only valid URLs.
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
        // The error of `value::parsed` would contain the URL with the password.
        let parsed = value::parsed(deserializer, EXPECTED, |text| Some(Self::parse(text)))?;
        parsed.map_err(serde::de::Error::custom)
    }
}
