//! `[dialects.<name>]`: the dialects, which are the HTTP interfaces that existing upload clients
//! expect.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::policies::PolicyConfig;
use super::value::{self, ConfigDuration};

/// `[dialects]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DialectsConfig {
    /// `ActiveStorage` of Rails.
    pub activestorage: DialectConfig,
    /// Uppy.
    pub companion: DialectConfig,
    /// `FilePond`.
    pub filepond: DialectConfig,
    /// Forms with one file: Dropzone, plain HTML.
    pub form: DialectConfig,
    /// django-s3-file-field.
    pub s3ff: DialectConfig,
    /// tus 1.0.
    pub tus: DialectConfig,
}

/// `[dialects.<name>]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DialectConfig {
    /// Whether its routes are served. `None` (`"auto"`) means in `dev` only.
    #[serde(deserialize_with = "value::auto_flag", serialize_with = "value::auto_flag_text")]
    pub enabled: Option<bool>,
    /// The policy of its uploads. If the request has an upload token, the token's policy is used.
    pub policy: String,
    /// The lifetime of a URL.
    pub url_ttl: ConfigDuration,
    /// Whether a URL can be used only once.
    #[serde(deserialize_with = "value::flag")]
    pub write_once: bool,
}

impl Default for DialectConfig {
    fn default() -> Self {
        Self {
            enabled: None,
            policy: "tracks".to_owned(),
            // A client that was paused requests a new upload, and the old one should expire soon.
            url_ttl: ConfigDuration::from_secs(900),
            // A client that lost the response repeats the PUT. Most clients show a 412 as a
            // failure.
            write_once: false,
        }
    }
}

impl DialectsConfig {
    /// All dialects by name.
    pub fn all(&self) -> [(&'static str, &DialectConfig); 6] {
        let Self { activestorage, companion, filepond, form, s3ff, tus } = self;
        [
            ("activestorage", activestorage),
            ("companion", companion),
            ("filepond", filepond),
            ("form", form),
            ("s3ff", s3ff),
            ("tus", tus),
        ]
    }

    /// Enables every dialect that is not disabled.
    pub fn enable_auto(&mut self) {
        let Self { activestorage, companion, filepond, form, s3ff, tus } = self;
        for dialect in [activestorage, companion, filepond, form, s3ff, tus] {
            dialect.enabled.get_or_insert(true);
        }
    }

    pub(super) fn check(
        &self,
        policies: &BTreeMap<String, PolicyConfig>,
    ) -> Result<(), ConfigError> {
        for (name, dialect) in self.all() {
            let key = |key: &str| format!("dialects.{name}.{key}");
            let Some(policy) = policies.get(&dialect.policy) else {
                let known: Vec<&str> = policies.keys().map(String::as_str).collect();
                let problem = format!(
                    "must be one of the policies {}, not \"{}\"",
                    known.join(", "),
                    dialect.policy
                );
                return Err(ConfigError::new(key("policy"), problem));
            };
            let (ttl, max) = (dialect.url_ttl.get(), policy.max_url_ttl);
            if ttl.as_secs() == 0 || ttl > max.get() {
                let problem = format!(
                    "must be from 1s to max_url_ttl of the policy `{}`, which is {max}",
                    dialect.policy
                );
                return Err(ConfigError::new(key("url_ttl"), problem));
            }
        }
        Ok(())
    }
}
