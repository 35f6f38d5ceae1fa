//! `[webhooks]` and `[webhooks.<name>]`: the receivers of upload events.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use url::{Host, Url};

use super::error::ConfigError;
use super::value::{self, ConfigDuration};
use crate::domain::address::is_public;
use crate::domain::webhook::EVENTS;

/// The shortest retention. Operators must have time to find failed deliveries and to send them
/// again.
const MIN_RETENTION: Duration = Duration::from_hours(1);

/// The keys of an endpoint. They are not in `config/default.toml`, which has no endpoint.
pub(super) const ENDPOINT_KEYS: [&str; 3] = ["events", "secret", "url"];

/// The keys of `[webhooks]` that apply to all endpoints. Every other key there is the name of an
/// endpoint.
const ALLOW_PRIVATE: &str = "allow_private";
const RETENTION: &str = "retention";
pub(super) const COMMON_KEYS: [&str; 2] = [ALLOW_PRIVATE, RETENTION];

/// `[webhooks]`.
#[derive(Debug, Clone, Serialize)]
pub struct WebhooksConfig {
    /// Whether endpoints may have private and loopback addresses.
    pub allow_private: bool,
    /// How long deliveries are kept after they ended.
    pub retention: ConfigDuration,
    /// `[webhooks.<name>]`.
    #[serde(flatten)]
    pub endpoints: BTreeMap<String, EndpointConfig>,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            allow_private: false,
            retention: ConfigDuration::from_hours(7 * 24),
            endpoints: BTreeMap::new(),
        }
    }
}

/// `[webhooks.<name>]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointConfig {
    /// The URL that events are posted to.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub url: Option<String>,
    /// The signing key: `whsec_` and base64.
    #[serde(deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub secret: Option<SecretString>,
    /// The events to send; an empty list means all.
    #[serde(deserialize_with = "value::list")]
    pub events: Vec<String>,
}

impl EndpointConfig {
    /// The URL, if it is valid.
    pub fn url(&self) -> Option<Url> {
        http_url(self.url.as_deref()?)
    }

    /// The signing key, if it is valid: 24 to 64 bytes.
    pub fn key(&self) -> Option<SecretSlice<u8>> {
        signing_key(self.secret.as_ref()?)
    }
}

/// The rule for a signing key.
pub(super) const SECRET_PROBLEM: &str = "must be whsec_ and the base64 of 24 to 64 random bytes";

/// Parses an `http` or `https` URL.
pub(super) fn http_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// The signing key in a secret, if it is valid: 24 to 64 bytes.
pub(super) fn signing_key(secret: &SecretString) -> Option<SecretSlice<u8>> {
    let text = secret.expose_secret().strip_prefix("whsec_")?;
    let key = BASE64_STANDARD.decode(text).ok()?;
    (24..=64).contains(&key.len()).then(|| SecretSlice::from(key))
}

/// Checks the URL of a webhook or an HTTP inspector. The error is the problem of a `ConfigError`.
pub(super) fn check_url(url: Option<Url>, allow_private: bool) -> Result<(), String> {
    let Some(url) = url else {
        return Err("must be a URL such as https://example.com/hooks".to_owned());
    };
    match private_host(&url).filter(|_| !allow_private) {
        Some(host) => Err(format!(
            "{host} is a private address, and requests are sent only to public \
             addresses; webhooks.allow_private = true allows it"
        )),
        None => Ok(()),
    }
}

/// The host of a URL if it is known to be private without a name lookup.
fn private_host(url: &Url) -> Option<String> {
    let private = match url.host()? {
        Host::Ipv4(address) => !is_public(IpAddr::V4(address)),
        Host::Ipv6(address) => !is_public(IpAddr::V6(address)),
        Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    };
    url.host_str().filter(|_| private).map(str::to_owned)
}

impl WebhooksConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.retention.get() < MIN_RETENTION {
            let problem = format!("must be at least \"1h\", not \"{}\"", self.retention);
            return Err(ConfigError::new("webhooks.retention", problem));
        }
        for (name, endpoint) in &self.endpoints {
            let fail = |key: &str, problem: String| {
                Err(ConfigError::new(format!("webhooks.{name}.{key}"), problem))
            };
            if let Err(problem) = check_url(endpoint.url(), self.allow_private) {
                return fail("url", problem);
            }
            if endpoint.key().is_none() {
                return fail("secret", SECRET_PROBLEM.to_owned());
            }
            let unknown = endpoint.events.iter().find(|event| !EVENTS.contains(&event.as_str()));
            if let Some(given) = unknown {
                let known = EVENTS.join(", ");
                return fail("events", format!("must contain only {known}, not \"{given}\""));
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for WebhooksConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Section)
    }
}

/// Reads the section key by key. The derived code with `flatten` would lose the names of the keys
/// in errors.
struct Section;

impl<'de> Visitor<'de> for Section {
    type Value = WebhooksConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut webhooks = WebhooksConfig::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                ALLOW_PRIVATE => webhooks.allow_private = map.next_value_seed(Flag)?,
                RETENTION => webhooks.retention = map.next_value()?,
                _ => drop(webhooks.endpoints.insert(name, map.next_value()?)),
            }
        }
        Ok(webhooks)
    }
}

struct Flag;

impl<'de> DeserializeSeed<'de> for Flag {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        value::flag(deserializer)
    }
}
