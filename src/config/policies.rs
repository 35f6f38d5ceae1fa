//! `[policies.<name>]`: the rules of one kind of upload.

mod check;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::object::ObjectConfig;
use super::value::{self, Choice, ConfigDuration, ConfigSize};
use crate::domain::key::Prefix;
use crate::domain::media::MediaRules;
use crate::domain::policy::{Late, Overwrite, Policy, PolicyName};

pub(super) use check::check_all;

impl Choice for Late {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("accept", Self::Accept), ("reject", Self::Reject)];
}

impl Choice for Overwrite {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("accept", Self::Accept), ("reject", Self::Reject)];
}

/// The prefix of all keys of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigPrefix(Prefix);

impl ConfigPrefix {
    /// Converts to the domain's type.
    pub fn get(&self) -> &Prefix {
        &self.0
    }
}

impl fmt::Display for ConfigPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ConfigPrefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConfigPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a prefix such as \"tracks/\"";
        let prefix = value::parsed(deserializer, expected, |text| {
            Some(
                Prefix::parse(text)
                    .map_err(|error| format!("must be {expected}, not \"{text}\": {error}")),
            )
        })?;
        prefix.map(Self).map_err(serde::de::Error::custom)
    }
}

/// `[policies.<name>]`. All policies have the defaults of `policies.tracks`, except for the prefix,
/// which is required.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// The store: `[storage.<name>]`.
    #[serde(default = "defaults::store")]
    pub store: String,
    /// The prefix of its keys.
    pub prefix: ConfigPrefix,
    /// The largest file.
    #[serde(default = "defaults::max_size")]
    pub max_size: ConfigSize,
    /// The allowed extensions, without the dot. An empty list allows all.
    #[serde(default = "defaults::allowed_extensions", deserialize_with = "value::list")]
    pub allowed_extensions: Vec<String>,
    /// The allowed media types. An empty list allows all.
    #[serde(default = "defaults::allowed_content_types", deserialize_with = "value::list")]
    pub allowed_content_types: Vec<String>,
    /// The default lifetime of a URL.
    #[serde(default = "defaults::url_ttl")]
    pub url_ttl: ConfigDuration,
    /// The longest lifetime of a URL.
    #[serde(default = "defaults::max_url_ttl")]
    pub max_url_ttl: ConfigDuration,
    /// How long after a URL's expiry bytes may still arrive.
    #[serde(default = "defaults::grace")]
    pub grace: ConfigDuration,
    /// The longest time that a PUT may take.
    #[serde(default = "defaults::max_put_duration")]
    pub max_put_duration: ConfigDuration,
    /// Whether a URL can be used only once. `None` (`"auto"`): yes if a content type or a size is
    /// declared.
    #[serde(
        default = "defaults::write_once",
        deserialize_with = "value::auto_flag",
        serialize_with = "value::auto_flag_text"
    )]
    pub write_once: Option<bool>,
    /// The size from which `auto` uses multipart.
    #[serde(default = "defaults::multipart_threshold")]
    pub multipart_threshold: ConfigSize,
    /// The size of a part.
    #[serde(default = "defaults::part_size")]
    pub part_size: ConfigSize,
    /// What happens to bytes that arrive after their upload expired.
    #[serde(
        default = "defaults::late",
        deserialize_with = "value::choice",
        serialize_with = "value::choice_name"
    )]
    pub late: Late,
    /// What happens to a verified object whose bytes change.
    #[serde(
        default = "defaults::overwrite",
        deserialize_with = "value::choice",
        serialize_with = "value::choice_name"
    )]
    pub overwrite: Overwrite,
    /// How long a rejected object is kept.
    #[serde(default = "defaults::retention")]
    pub rejected_retention: ConfigDuration,
    /// How long a replaced object is kept.
    #[serde(default = "defaults::retention")]
    pub replaced_retention: ConfigDuration,
    /// How long a moved object is kept at its former location. `None` (`"auto"`): one day, or the
    /// longest lifetime of a URL if that is longer.
    #[serde(
        default,
        deserialize_with = "value::auto_duration",
        serialize_with = "value::auto_duration_text"
    )]
    pub move_retention: Option<ConfigDuration>,
    /// How long a verified upload that is not attached is kept. `None` (`"off"`) means for ever.
    #[serde(
        default,
        deserialize_with = "value::optional_duration",
        serialize_with = "value::optional_duration_text"
    )]
    pub unattached_retention: Option<ConfigDuration>,
    /// The inspectors that must accept a file before it is served: `[inspectors.<name>]`.
    #[serde(default, deserialize_with = "value::list")]
    pub inspect: Vec<String>,
    /// The longest sound or video, for the inspector `media`.
    #[serde(
        default,
        deserialize_with = "value::optional_duration",
        serialize_with = "value::optional_duration_text"
    )]
    pub max_duration: Option<ConfigDuration>,
    /// The shortest sound or video, for the inspector `media`.
    #[serde(
        default,
        deserialize_with = "value::optional_duration",
        serialize_with = "value::optional_duration_text"
    )]
    pub min_duration: Option<ConfigDuration>,
    /// The most pixels of an image or a video, for the inspector `media`.
    #[serde(
        default,
        deserialize_with = "value::optional_number",
        serialize_with = "value::optional_number_text"
    )]
    pub max_pixels: Option<u64>,
    /// Whether files are rejected that contain coordinates, for the inspector `media`.
    #[serde(default, deserialize_with = "value::flag")]
    pub reject_gps: bool,
    /// How many bytes may be read to verify a checksum that the store does not keep.
    #[serde(default = "defaults::verify_max_read")]
    pub verify_max_read: ConfigSize,
    /// Settings that the store keeps with the objects, for example encryption and storage class.
    #[serde(default)]
    pub object: ObjectConfig,
}

/// The default of each key, as in `config/default.toml`.
mod defaults {
    use super::{ConfigDuration, ConfigSize, Late, Overwrite};

    pub(super) fn store() -> String {
        "default".to_owned()
    }
    pub(super) fn max_size() -> ConfigSize {
        ConfigSize::from_mib(100)
    }
    pub(super) fn allowed_extensions() -> Vec<String> {
        vec!["mp3".to_owned()]
    }
    pub(super) fn allowed_content_types() -> Vec<String> {
        vec!["audio/mpeg".to_owned(), "audio/mp3".to_owned()]
    }
    pub(super) fn url_ttl() -> ConfigDuration {
        ConfigDuration::from_hours(1)
    }
    pub(super) fn max_url_ttl() -> ConfigDuration {
        ConfigDuration::from_hours(24)
    }
    /// The clock difference that stores accept.
    pub(super) fn grace() -> ConfigDuration {
        ConfigDuration::from_secs(15 * 60)
    }
    pub(super) fn max_put_duration() -> ConfigDuration {
        ConfigDuration::from_hours(24)
    }
    pub(super) fn write_once() -> Option<bool> {
        None
    }
    pub(super) fn multipart_threshold() -> ConfigSize {
        ConfigSize::from_mib(64)
    }
    pub(super) fn part_size() -> ConfigSize {
        ConfigSize::from_mib(16)
    }
    pub(super) fn late() -> Late {
        Late::Accept
    }
    pub(super) fn overwrite() -> Overwrite {
        Overwrite::Reject
    }
    pub(super) fn retention() -> ConfigDuration {
        ConfigDuration::from_hours(24)
    }
    pub(super) fn verify_max_read() -> ConfigSize {
        ConfigSize::from_mib(64)
    }
}

impl PolicyConfig {
    /// A policy with this prefix and the default of each other key.
    pub fn new(prefix: Prefix) -> Self {
        Self {
            store: defaults::store(),
            prefix: ConfigPrefix(prefix),
            max_size: defaults::max_size(),
            allowed_extensions: defaults::allowed_extensions(),
            allowed_content_types: defaults::allowed_content_types(),
            url_ttl: defaults::url_ttl(),
            max_url_ttl: defaults::max_url_ttl(),
            grace: defaults::grace(),
            max_put_duration: defaults::max_put_duration(),
            write_once: defaults::write_once(),
            multipart_threshold: defaults::multipart_threshold(),
            part_size: defaults::part_size(),
            late: defaults::late(),
            overwrite: defaults::overwrite(),
            rejected_retention: defaults::retention(),
            replaced_retention: defaults::retention(),
            move_retention: None,
            unattached_retention: None,
            inspect: Vec::new(),
            max_duration: None,
            min_duration: None,
            max_pixels: None,
            reject_gps: false,
            verify_max_read: defaults::verify_max_read(),
            object: ObjectConfig::default(),
        }
    }

    /// Converts to the domain's type.
    pub fn policy(&self, name: &str) -> Policy {
        Policy {
            name: PolicyName::new(name),
            store: self.store.clone(),
            prefix: self.prefix.0.clone(),
            max_size: self.max_size.bytes(),
            allowed_extensions: self.allowed_extensions.clone(),
            allowed_content_types: self.allowed_content_types.clone(),
            url_ttl: self.url_ttl.delta(),
            max_url_ttl: self.max_url_ttl.delta(),
            grace: self.grace.delta(),
            max_put_duration: self.max_put_duration.delta(),
            write_once: self.write_once,
            multipart_threshold: self.multipart_threshold.bytes(),
            part_size: self.part_size.bytes(),
            late: self.late,
            overwrite: self.overwrite,
            rejected_retention: self.rejected_retention.delta(),
            replaced_retention: self.replaced_retention.delta(),
            move_retention: self.move_retention.map_or_else(
                || defaults::retention().delta().max(self.max_url_ttl.delta()),
                ConfigDuration::delta,
            ),
            unattached_retention: self.unattached_retention.map(ConfigDuration::delta),
            // `Config` sets both, because they depend on the kinds of the inspectors.
            inspect: Vec::new(),
            media: None,
            verify_max_read: self.verify_max_read.bytes(),
            object: self.object.settings(),
        }
    }

    /// The rules for the inspector `media`.
    pub(super) fn media_rules(&self) -> MediaRules {
        MediaRules {
            max_duration: self.max_duration.map(ConfigDuration::delta),
            min_duration: self.min_duration.map(ConfigDuration::delta),
            max_pixels: self.max_pixels,
            reject_gps: self.reject_gps,
        }
    }
}
