//! `[inspectors.<name>]`: the inspectors that examine files before they are served.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::{SecretSlice, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::error::ConfigError;
use super::policies::PolicyConfig;
use super::value::{self, Choice, ConfigDuration, ConfigSize};
use super::webhooks;
use crate::domain::inspection::{Fallback, InspectorName, MEDIA};
use crate::domain::limits::{MAX_OBJECT_SIZE, MAX_SIGNED_LIFETIME};
use crate::domain::policy::{MediaInspection, Overwrite};

/// The largest file size that can be configured for the virus scanner. `ClamAV` does not scan
/// larger files.
const MAX_CLAMD_SIZE: u64 = 2 << 30;

/// The largest file that `ClamAV` scans with Debian's configuration. It reports larger files as
/// clean.
const CLAMD_SIZE: u64 = 25 << 20;

/// The longest time limit of one attempt.
const MAX_TIMEOUT: Duration = Duration::from_hours(1);

const MAX_CONCURRENCY: usize = 256;

/// The kind of an inspector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InspectorKind {
    /// The daemon of the virus scanner `ClamAV`.
    Clamd,
    /// A service that is called over HTTP.
    Http,
    /// The built-in reader of media files.
    Media,
}

impl Choice for InspectorKind {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("clamd", Self::Clamd), ("http", Self::Http), ("media", Self::Media)];
}

impl Choice for Fallback {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("hold", Self::Hold), ("accept", Self::Accept), ("reject", Self::Reject)];
}

/// The address of the daemon of `ClamAV`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClamdAddress {
    /// `host:port`.
    Tcp(String),
    /// `unix:/path`.
    Unix(String),
}

/// `[inspectors.<name>]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InspectorConfig {
    /// The kind.
    #[serde(deserialize_with = "value::choice", serialize_with = "value::choice_name")]
    pub kind: InspectorKind,
    /// The address of the daemon, for `clamd`.
    #[serde(
        default,
        deserialize_with = "value::optional_text",
        serialize_with = "value::text_or_empty"
    )]
    pub address: Option<String>,
    /// The URL that inspections are posted to, for `http`.
    #[serde(
        default,
        deserialize_with = "value::optional_text",
        serialize_with = "value::text_or_empty"
    )]
    pub url: Option<String>,
    /// The signing key for `http`: `whsec_` and base64.
    #[serde(default, deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub secret: Option<SecretString>,
    /// The time limit of one attempt.
    #[serde(default = "defaults::timeout")]
    pub timeout: ConfigDuration,
    /// How long after the arrival of a file the service waits for a verdict.
    #[serde(default = "defaults::deadline")]
    pub deadline: ConfigDuration,
    /// The largest file that it can inspect. `None` (`"auto"`) depends on the kind.
    #[serde(
        default,
        deserialize_with = "value::auto_size",
        serialize_with = "value::auto_size_text"
    )]
    pub max_size: Option<ConfigSize>,
    /// The largest number of concurrent inspections in each process.
    #[serde(default = "defaults::concurrency", deserialize_with = "value::number")]
    pub concurrency: usize,
    /// What happens if the inspector still fails at the deadline.
    #[serde(
        default = "defaults::fallback",
        deserialize_with = "value::choice",
        serialize_with = "value::choice_name"
    )]
    pub on_error: Fallback,
    /// What happens if the inspector can't inspect a file.
    #[serde(
        default = "defaults::fallback",
        deserialize_with = "value::choice",
        serialize_with = "value::choice_name"
    )]
    pub on_unscannable: Fallback,
}

/// The default of each key.
mod defaults {
    use super::{ConfigDuration, Fallback};

    pub(super) fn timeout() -> ConfigDuration {
        ConfigDuration::from_secs(10)
    }
    pub(super) fn deadline() -> ConfigDuration {
        ConfigDuration::from_secs(15 * 60)
    }
    pub(super) fn concurrency() -> usize {
        4
    }
    pub(super) fn fallback() -> Fallback {
        Fallback::Hold
    }
}

impl InspectorConfig {
    /// The defaults of a kind.
    pub fn new(kind: InspectorKind) -> Self {
        let fallback = match kind {
            // It is part of the verification, which must not wait.
            InspectorKind::Media => Fallback::Accept,
            InspectorKind::Clamd | InspectorKind::Http => defaults::fallback(),
        };
        Self {
            kind,
            address: None,
            url: None,
            secret: None,
            timeout: defaults::timeout(),
            deadline: defaults::deadline(),
            max_size: None,
            concurrency: defaults::concurrency(),
            on_error: fallback,
            on_unscannable: fallback,
        }
    }

    /// The largest file that it can inspect, in bytes.
    pub fn max_size(&self) -> u64 {
        let by_kind = match self.kind {
            InspectorKind::Clamd => CLAMD_SIZE,
            InspectorKind::Http | InspectorKind::Media => MAX_OBJECT_SIZE,
        };
        self.max_size.map_or(by_kind, ConfigSize::bytes)
    }

    /// The address of the daemon, if it is valid.
    pub fn clamd_address(&self) -> Option<ClamdAddress> {
        let address = self.address.as_deref()?;
        if let Some(path) = address.strip_prefix("unix:") {
            return path.starts_with('/').then(|| ClamdAddress::Unix(path.to_owned()));
        }
        let (host, port) = address.rsplit_once(':')?;
        let valid = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0);
        valid.then(|| ClamdAddress::Tcp(address.to_owned()))
    }

    /// The URL, if it is valid.
    pub fn url(&self) -> Option<Url> {
        webhooks::http_url(self.url.as_deref()?)
    }

    /// The signing key, if it is valid.
    pub fn key(&self) -> Option<SecretSlice<u8>> {
        webhooks::signing_key(self.secret.as_ref()?)
    }

    fn check(&self, name: &str, allow_private: bool) -> Result<(), (&'static str, String)> {
        let is_media = self.kind == InspectorKind::Media;
        if is_media != (name == MEDIA) {
            let problem = if is_media {
                "is only for the built-in inspector `media`; use \"clamd\" or \"http\""
            } else {
                "must be \"media\" for the built-in inspector; choose another name"
            };
            return Err(("kind", problem.to_owned()));
        }
        self.check_peer(allow_private)?;
        if self.timeout.get().is_zero() || self.timeout.get() > MAX_TIMEOUT {
            let problem =
                format!("must be above zero and at most \"1h\", not \"{}\"", self.timeout);
            return Err(("timeout", problem));
        }
        if self.deadline < self.timeout || self.deadline.delta() > MAX_SIGNED_LIFETIME {
            let problem =
                format!("must be from the timeout up to \"7d\", not \"{}\"", self.deadline);
            return Err(("deadline", problem));
        }
        if let Some(size) = self.max_size {
            let clamd = self.kind == InspectorKind::Clamd;
            let most = if clamd { MAX_CLAMD_SIZE } else { MAX_OBJECT_SIZE };
            value::in_range(size, 1, most).map_err(|problem| ("max_size", problem))?;
        }
        if !(1..=MAX_CONCURRENCY).contains(&self.concurrency) {
            let problem = format!("must be from 1 to {MAX_CONCURRENCY}, not {}", self.concurrency);
            return Err(("concurrency", problem));
        }
        let fallbacks = [("on_error", self.on_error), ("on_unscannable", self.on_unscannable)];
        for (key, fallback) in fallbacks {
            if is_media && fallback == Fallback::Hold {
                let problem = "must be \"accept\" or \"reject\" for the built-in inspector, which is \
                               part of the verification";
                return Err((key, problem.to_owned()));
            }
        }
        Ok(())
    }

    /// Checks the address or the URL.
    fn check_peer(&self, allow_private: bool) -> Result<(), (&'static str, String)> {
        let set = [
            ("address", self.address.is_some(), InspectorKind::Clamd),
            ("url", self.url.is_some(), InspectorKind::Http),
            ("secret", self.secret.is_some(), InspectorKind::Http),
        ];
        for (key, is_set, kind) in set {
            if is_set && kind != self.kind {
                let name = if kind == InspectorKind::Clamd { "clamd" } else { "http" };
                return Err((key, format!("is only for kind = \"{name}\"")));
            }
        }
        match self.kind {
            InspectorKind::Clamd if self.clamd_address().is_none() => {
                let problem = "must be host:port or unix:/path, for example \"127.0.0.1:3310\" or \
                               \"unix:/run/clamav/clamd.ctl\"";
                Err(("address", problem.to_owned()))
            }
            InspectorKind::Http => {
                webhooks::check_url(self.url(), allow_private)
                    .map_err(|problem| ("url", problem))?;
                if self.key().is_none() {
                    return Err(("secret", webhooks::SECRET_PROBLEM.to_owned()));
                }
                Ok(())
            }
            InspectorKind::Clamd | InspectorKind::Media => Ok(()),
        }
    }
}

/// Checks each inspector, and the keys `inspect` and `overwrite` of each policy.
pub(super) fn check_all(
    inspectors: &BTreeMap<String, InspectorConfig>,
    policies: &BTreeMap<String, PolicyConfig>,
    allow_private: bool,
) -> Result<(), ConfigError> {
    for (name, inspector) in inspectors {
        let problem = inspector.check(name, allow_private);
        problem.map_err(|(key, problem)| {
            ConfigError::new(format!("inspectors.{name}.{key}"), problem)
        })?;
    }
    for (name, policy) in policies {
        let fail = |key: &str, problem: String| {
            Err(ConfigError::new(format!("policies.{name}.{key}"), problem))
        };
        for (n, inspector) in policy.inspect.iter().enumerate() {
            if !inspectors.contains_key(inspector) {
                let known: Vec<&str> = inspectors.keys().map(String::as_str).collect();
                let known = known.join(", ");
                let problem =
                    format!("must contain only names of inspectors ({known}), not \"{inspector}\"");
                return fail("inspect", problem);
            }
            if policy.inspect[..n].contains(inspector) {
                return fail("inspect", format!("names \"{inspector}\" twice"));
            }
        }
        if policy.overwrite == Overwrite::Accept && !policy.inspect.is_empty() {
            let problem = "must be \"reject\" in a policy with inspectors; otherwise a file could \
                           be served that no inspector has examined";
            return fail("overwrite", problem.to_owned());
        }
    }
    Ok(())
}

/// The inspectors that run after the verification: all inspectors of the policy except `media`.
pub(super) fn queued(
    inspectors: &BTreeMap<String, InspectorConfig>,
    policy: &PolicyConfig,
) -> Vec<InspectorName> {
    let is_queued = |name: &&String| {
        inspectors.get(*name).is_some_and(|inspector| inspector.kind != InspectorKind::Media)
    };
    policy.inspect.iter().filter(is_queued).map(InspectorName::new).collect()
}

/// The settings of the built-in inspector, if the policy names it.
pub(super) fn media(
    inspectors: &BTreeMap<String, InspectorConfig>,
    policy: &PolicyConfig,
) -> Option<MediaInspection> {
    let inspector = policy.inspect.iter().find(|name| *name == MEDIA)?;
    let inspector = inspectors.get(inspector)?;
    Some(MediaInspection {
        rules: policy.media_rules(),
        timeout: inspector.timeout.get(),
        max_size: inspector.max_size(),
        on_error: inspector.on_error,
        on_unscannable: inspector.on_unscannable,
    })
}
