//! The checks of policies: the values of each, and the rules between policies and stores.

use std::collections::BTreeMap;

use super::PolicyConfig;
use crate::config::error::ConfigError;
use crate::config::storage::{StoreConfig, StoreKind};
use crate::config::value::{self, ConfigDuration};
use crate::domain::inspection::MEDIA;
use crate::domain::limits::{MAX_OBJECT_SIZE, MAX_PUT_SIZE, MAX_SIGNED_LIFETIME, MIN_PART_SIZE};
use crate::domain::policy::DOWNLOAD_TTL;

impl PolicyConfig {
    fn check(&self, name: &str) -> Result<(), ConfigError> {
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
pub(in crate::config) fn check_all(
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
