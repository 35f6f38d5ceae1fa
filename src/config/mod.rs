//! The configuration: one typed file for each section, read and validated once at start.
//!
//! The sources are `config/default.toml` (built in), a file, the environment
//! (`UPLOAD_COORDINATOR__SECTION__KEY`), and values that a command sets. A later source overrides
//! the earlier ones. Every error is one sentence that names the full key, the accepted values and
//! the source.
//!
//! To add a key, add a field with its default to the section's file, a line with a comment to
//! `config/default.toml` (a test compares the two), and its range to the section's `check`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::inspection::MEDIA;
use crate::domain::policy::{Policy, PolicyName};

mod access_keys;
pub mod auth;
pub mod database;
pub mod dialects;
pub mod direct_upload;
mod error;
pub mod events;
pub mod inspectors;
mod layers;
pub mod limits;
pub mod object;
pub mod policies;
pub mod reconcile;
pub mod server;
mod shape;
pub mod storage;
pub mod telemetry;
#[cfg(test)]
mod tests;
mod value;
pub mod webhooks;

pub use auth::{AuthConfig, AuthMode, JwksSource, JwtAlgorithm, JwtConfig};
pub use database::{DatabaseConfig, DatabaseUrl};
pub use dialects::{DialectConfig, DialectsConfig};
pub use direct_upload::DirectUploadConfig;
pub use error::ConfigError;
pub use events::{EventsConfig, SnsConfig, SqsConfig};
pub use inspectors::{ClamdAddress, InspectorConfig, InspectorKind};
pub use layers::{DEFAULT_TOML, ENV_PREFIX, Sources, near_misses};
pub use limits::LimitsConfig;
pub use policies::{ConfigPrefix, PolicyConfig};
pub use reconcile::{ReconcileConfig, Schedule, cron_parser};
pub use server::{ServerConfig, TlsConfig};
pub use storage::{StoreConfig, StoreKind};
pub use telemetry::{LogFilter, LogFormat, OTLP_ENDPOINT, TelemetryConfig};
pub use value::{ConfigDuration, ConfigSize};
pub use webhooks::WebhooksConfig;

/// The effective configuration, validated.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[server]`.
    pub server: ServerConfig,
    /// `[database]`.
    pub database: DatabaseConfig,
    /// `[storage.<name>]`.
    pub storage: BTreeMap<String, StoreConfig>,
    /// `[policies.<name>]`; `tracks` always exists.
    pub policies: BTreeMap<String, PolicyConfig>,
    /// `[reconcile]`.
    pub reconcile: ReconcileConfig,
    /// `[events]`.
    pub events: EventsConfig,
    /// `[webhooks]`.
    pub webhooks: WebhooksConfig,
    /// `[dialects.<name>]`.
    pub dialects: DialectsConfig,
    /// `[inspectors.<name>]`; `media` always exists.
    pub inspectors: BTreeMap<String, InspectorConfig>,
    /// `[auth]`.
    pub auth: AuthConfig,
    /// `[direct_upload]`.
    pub direct_upload: DirectUploadConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// `[telemetry]`.
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// Loads the defaults, then the file, then this process's environment.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_with(file, &[])
    }

    /// Like [`Self::load`], with additional values by their full keys. These have the highest
    /// priority.
    pub fn load_with(file: Option<&Path>, overrides: &[(&str, &str)]) -> Result<Self, ConfigError> {
        Self::from_sources(&Sources::of_process(file)?.with_overrides(overrides))
    }

    /// A limit for each owner; 0 means no limit. Without authentication, all callers are the same
    /// owner, so there is no limit either.
    pub fn share(&self, limit: usize) -> usize {
        if limit == 0 || self.auth.mode == AuthMode::None { usize::MAX } else { limit }
    }

    /// Loads the defaults, then exactly these sources.
    pub fn from_sources(sources: &Sources) -> Result<Self, ConfigError> {
        let tree = sources.tree()?;
        let located = |error: ConfigError| {
            let origin = layers::origin(&tree, error.key());
            error.in_origin(origin.as_deref())
        };
        shape::check(&tree).map_err(located)?;
        let config: Self = serde_path_to_error::deserialize(tree.clone()).map_err(|error| {
            located(ConfigError::new(error.path().to_string(), problem(error.inner())))
        })?;
        config.check().map_err(located)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.server.check()?;
        self.database.check()?;
        for (name, store) in &self.storage {
            store.check(name)?;
        }
        policies::check_all(&self.policies, &self.storage)?;
        self.reconcile.check()?;
        self.events.check()?;
        self.webhooks.check()?;
        self.dialects.check(&self.policies)?;
        let allow_private = self.webhooks.allow_private;
        inspectors::check_all(&self.inspectors, &self.policies, allow_private)?;
        self.auth.check()?;
        self.direct_upload.check()?;
        self.limits.check()
    }

    /// Adds an inspector to a policy, unless the policy names it already.
    pub fn inspect(&mut self, policy: &str, inspector: &str) -> Result<(), ConfigError> {
        if let Some(policy) = self.policies.get_mut(policy)
            && !policy.inspect.iter().any(|name| name == inspector)
        {
            policy.inspect.push(inspector.to_owned());
        }
        self.check()
    }

    /// Checks that each store in use has a bucket. This is not part of the validation, because the
    /// bucket has no default and not every command needs it.
    pub fn require_stores(&self) -> Result<(), ConfigError> {
        self.stores_in_use().try_for_each(|(name, store)| store.bucket(name).map(drop))
    }

    /// The stores that policies use.
    pub fn stores_in_use(&self) -> impl Iterator<Item = (&str, &StoreConfig)> {
        let used: BTreeSet<&str> =
            self.policies.values().map(|policy| policy.store.as_str()).collect();
        let stores = self.storage.iter().map(|(name, store)| (name.as_str(), store));
        stores.filter(move |(name, _)| used.contains(name))
    }

    /// The largest number of concurrent inspections by the built-in inspector.
    pub fn media_concurrency(&self) -> usize {
        self.inspectors.get(MEDIA).map_or(1, |media| media.concurrency)
    }

    /// All policies by name, as domain values.
    pub fn domain_policies(&self) -> BTreeMap<PolicyName, Policy> {
        let policies = self.policies.iter().map(|(name, policy)| Policy {
            inspect: inspectors::queued(&self.inspectors, policy),
            media: inspectors::media(&self.inspectors, policy),
            ..policy.policy(name)
        });
        policies.map(|policy| (policy.name.clone(), policy)).collect()
    }

    /// The effective configuration as TOML, with every key and with masked secrets.
    pub fn masked(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// The innermost error. The outer errors only repeat the key.
fn problem(error: &::config::ConfigError) -> String {
    match error {
        ::config::ConfigError::At { error, .. } => problem(error),
        ::config::ConfigError::Message(message) => message.clone(),
        ::config::ConfigError::NotFound(_) => "is missing".to_owned(),
        ::config::ConfigError::Type { expected, unexpected, .. } => {
            format!("must be {expected}, not {unexpected}")
        }
        other => other.to_string(),
    }
}
