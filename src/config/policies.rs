//! `[policies.<name>]`: the rules of one kind of upload.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::ConfigError;
use super::object::ObjectConfig;
use super::storage::{StoreConfig, StoreKind};
use super::value::{self, Choice, ConfigDuration, ConfigSize};
use crate::domain::inspection::MEDIA;
use crate::domain::key::Prefix;
use crate::domain::limits::{MAX_OBJECT_SIZE, MAX_PUT_SIZE, MAX_SIGNED_LIFETIME, MIN_PART_SIZE};
use crate::domain::media::MediaRules;
use crate::domain::policy::{DOWNLOAD_TTL, Late, Overwrite, Policy, PolicyName};

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
    /// As the domain's type.
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
    /// Without the dot; empty allows all.
    #[serde(default = "defaults::allowed_extensions", deserialize_with = "value::list")]
    pub allowed_extensions: Vec<String>,
    /// Media types; empty allows all.
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
    /// How the store keeps the objects.
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
    /// The defaults with a prefix.
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

    /// As the domain's type.
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
            // The kind of an inspector decides whether it runs after the verification.
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

    pub(super) fn check(&self, name: &str) -> Result<(), ConfigError> {
        self.check_lists()
            .and_then(|()| self.check_times())
            .and_then(|()| self.check_media())
            .and_then(|()| self.check_sizes())
            .map_err(|(key, problem)| {
                ConfigError::new(format!("policies.{name}.{key}"), problem)
            })?;
        self.object.check().map_err(|(key, problem)| {
            ConfigError::new(format!("policies.{name}.object.{key}"), problem)
        })
    }

    fn check_lists(&self) -> Result<(), (&'static str, String)> {
        for extension in &self.allowed_extensions {
            if !extension.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+".contains(&b)) {
                let must = "must be extensions such as \"mp3\", without the dot";
                return Err(("allowed_extensions", format!("{must}, not \"{extension}\"")));
            }
        }
        for media_type in &self.allowed_content_types {
            let shaped = media_type.split_once('/').is_some_and(|(kind, sub)| {
                let token = |part: &str| {
                    !part.is_empty()
                        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+.".contains(&b))
                };
                token(kind) && token(sub)
            });
            if !shaped {
                let must = "must be media types such as \"audio/mpeg\"";
                return Err(("allowed_content_types", format!("{must}, not \"{media_type}\"")));
            }
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), (&'static str, String)> {
        let whole = |ttl: ConfigDuration| ttl.get().as_secs() > 0 && ttl.get().subsec_nanos() == 0;
        for (key, ttl) in [("url_ttl", self.url_ttl), ("max_url_ttl", self.max_url_ttl)] {
            if !whole(ttl) {
                return Err((
                    key,
                    format!("must be whole seconds, at least \"1s\", not \"{ttl}\""),
                ));
            }
        }
        if self.max_url_ttl.delta() > MAX_SIGNED_LIFETIME {
            let ttl = self.max_url_ttl;
            return Err((
                "max_url_ttl",
                format!(
                    "must be at most \"7d\", the maximum lifetime of a presigned URL, not \"{ttl}\""
                ),
            ));
        }
        if let Some(retention) = self.move_retention.filter(|time| time.delta() < DOWNLOAD_TTL) {
            let least = DOWNLOAD_TTL.num_minutes();
            return Err((
                "move_retention",
                format!(
                    "must be at least \"{least}min\", as long as a download URL lives, not \"{retention}\""
                ),
            ));
        }
        if self.url_ttl > self.max_url_ttl {
            let (ttl, max) = (self.url_ttl, self.max_url_ttl);
            return Err((
                "url_ttl",
                format!("must be at most max_url_ttl, \"{max}\", not \"{ttl}\""),
            ));
        }
        Ok(())
    }

    fn check_media(&self) -> Result<(), (&'static str, String)> {
        let rules = [
            ("max_duration", self.max_duration.is_some()),
            ("min_duration", self.min_duration.is_some()),
            ("max_pixels", self.max_pixels.is_some()),
            ("reject_gps", self.reject_gps),
        ];
        if !self.inspect.iter().any(|name| name == MEDIA)
            && let Some((key, _)) = rules.into_iter().find(|(_, set)| *set)
        {
            return Err((key, "has no effect without \"media\" in inspect".to_owned()));
        }
        if let (Some(min), Some(max)) = (self.min_duration, self.max_duration)
            && min > max
        {
            let problem = format!("must be at most max_duration, \"{max}\", not \"{min}\"");
            return Err(("min_duration", problem));
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), (&'static str, String)> {
        let ranges = [
            ("max_size", self.max_size, 1, MAX_OBJECT_SIZE),
            ("multipart_threshold", self.multipart_threshold, 1, MAX_PUT_SIZE),
            ("part_size", self.part_size, MIN_PART_SIZE, MAX_PUT_SIZE),
        ];
        for (key, size, least, most) in ranges {
            value::in_range(size, least, most).map_err(|problem| (key, problem))?;
        }
        Ok(())
    }
}

/// Checks each policy, and the rules between policies and stores.
pub(super) fn check_all(
    policies: &BTreeMap<String, PolicyConfig>,
    stores: &BTreeMap<String, StoreConfig>,
) -> Result<(), ConfigError> {
    for (name, policy) in policies {
        policy.check(name)?;
        if let Some(StoreConfig { kind: StoreKind::Embedded, .. }) = stores.get(&policy.store)
            && let Some(key) = policy.object.beyond_embedded()
        {
            let problem = format!(
                "is not possible in storage.{}, because the embedded store does not support it; omit it",
                policy.store
            );
            return Err(ConfigError::new(format!("policies.{name}.object.{key}"), problem));
        }
        if let Some(StoreConfig { kind: StoreKind::Azure, .. }) = stores.get(&policy.store)
            && let Some((key, problem)) = policy.object.beyond_azure()
        {
            return Err(ConfigError::new(format!("policies.{name}.object.{key}"), problem));
        }
        if !stores.contains_key(&policy.store) {
            let known: Vec<&str> = stores.keys().map(String::as_str).collect();
            let problem =
                format!("must be one of the stores {}, not \"{}\"", known.join(", "), policy.store);
            return Err(ConfigError::new(format!("policies.{name}.store"), problem));
        }
    }
    let one_bucket = |a: &str, b: &str| {
        a == b || stores.get(a).zip(stores.get(b)).is_some_and(|(a, b)| a.same_bucket(b))
    };
    for (later, (name, policy)) in policies.iter().enumerate() {
        for (other_name, other) in policies.iter().take(later) {
            if one_bucket(&policy.store, &other.store) && policy.prefix.0.overlaps(&other.prefix.0)
            {
                // `tracks` always exists, so the other policy is the one to change.
                let (name, policy, other_name, other) = if name == "tracks" {
                    (other_name, other, name, policy)
                } else {
                    (name, policy, other_name, other)
                };
                let (prefix, theirs) = (&policy.prefix, &other.prefix);
                let problem = format!(
                    "\"{prefix}\" overlaps \"{theirs}\" of policies.{other_name} in the same bucket; choose another prefix"
                );
                return Err(ConfigError::new(format!("policies.{name}.prefix"), problem));
            }
        }
    }
    Ok(())
}
