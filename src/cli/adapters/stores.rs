//! Opens the stores of the configuration, and probes what they support.

use anyhow::Context as _;
use aws_sdk_s3::config::SharedHttpClient;

#[cfg(feature = "embedded-s3")]
use super::embedded::EmbeddedServer;
use crate::config::{Config, StoreConfig, StoreKind};
use crate::domain::IdSource as _;
use crate::domain::clock::SystemClock;
use crate::domain::ids::SystemIds;
use crate::domain::object_settings::ObjectSettings;
use crate::storage::probe::{self, BrowserClient, Outcome, ProbeOptions};
use crate::storage::{Backend, Store, backend};

/// A configured bucket, before the first request to it.
pub struct OpenedStore {
    backend: Box<dyn Backend>,
    /// The store's server, if it runs in this process.
    #[cfg(feature = "embedded-s3")]
    pub server: Option<EmbeddedServer>,
}

impl OpenedStore {
    /// Starts the store's server if it is the embedded one. No request is sent to other stores.
    pub async fn open(
        name: &str,
        config: &StoreConfig,
        http: &SharedHttpClient,
    ) -> anyhow::Result<Self> {
        match config.kind {
            #[cfg(feature = "embedded-s3")]
            StoreKind::Embedded => {
                let server = EmbeddedServer::start(name, config).await?;
                let backend = backend::open(name, &server.reachable(config), http).await?;
                Ok(Self { backend, server: Some(server) })
            }
            #[cfg(not(feature = "embedded-s3"))]
            StoreKind::Embedded => anyhow::bail!(
                "storage.{name}.kind: this build has no embedded store; build it with the feature `embedded-s3`"
            ),
            StoreKind::S3 | StoreKind::Azure => Ok(Self {
                backend: backend::open(name, config, http).await?,
                #[cfg(feature = "embedded-s3")]
                server: None,
            }),
        }
    }

    /// The bucket as the service uses it, with assumed capabilities.
    pub fn store(&self) -> &Store {
        self.backend.store()
    }

    /// The store's kind.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Checks that the bucket exists, and probes the capabilities if `probe` is configured.
    pub(super) async fn ready(&self, name: &str, config: &Config) -> anyhow::Result<Store> {
        let at = |key: &str| format!("storage.{name}.{key}");
        let mut store = self.store().clone();
        let StoreConfig { kind, probe, .. } = config.storage[name];
        if kind == StoreKind::Embedded {
            store.objects.create_bucket().await.with_context(|| at("bucket"))?;
        }
        store.objects.check_bucket().await.with_context(|| {
            format!("{}: can't use the bucket `{}`", at("bucket"), store.bucket)
        })?;
        if probe && kind != StoreKind::Embedded {
            let report = self.probe(config, &[]).await;
            for check in report.checks.iter().filter(|check| check.outcome != Outcome::Pass) {
                tracing::warn!(store = name, check = %check.name, saw = %check.saw,
                    mend = check.mend.as_deref(), "a check of the store did not pass");
            }
            store.capabilities = report.capabilities.into();
        }
        Ok(store)
    }

    /// Finds out what the store supports and enforces, also for browsers at these origins.
    pub async fn probe(&self, config: &Config, origins: &[String]) -> probe::Report {
        let options = self.probe_options(config, origins);
        self.backend.probe(&SystemClock, &options).await
    }

    /// Repeats the check of the CORS rules.
    pub async fn probe_cors(&self, config: &Config, origins: &[String]) -> probe::Check {
        let options = self.probe_options(config, origins);
        self.backend.check_cors(&SystemClock, &options).await
    }

    /// Checks a client's requests from browsers to the bucket.
    pub async fn probe_client(
        &self,
        config: &Config,
        origins: &[String],
        client: &BrowserClient<'_>,
    ) -> probe::Check {
        let options = self.probe_options(config, origins);
        self.backend.check_client(&SystemClock, &options, client).await
    }

    /// The options of the probe. Its objects are stored below the prefix of a policy, because the
    /// access key may be limited to that prefix.
    fn probe_options(&self, config: &Config, origins: &[String]) -> ProbeOptions {
        let store = &self.store().name;
        let mut policies = config.policies.values();
        let policy = policies.find(|policy| policy.store == *store);
        let with_settings = config
            .domain_policies()
            .into_values()
            .filter(|policy| policy.store == *store && policy.object != ObjectSettings::default());
        ProbeOptions {
            objects: with_settings.map(|policy| (policy.name, policy.object)).collect(),
            prefix: policy.map(|policy| policy.prefix.to_string()).unwrap_or_default(),
            run: SystemIds.uuid(),
            origins: origins.to_vec(),
        }
    }

    /// Stops the store's server if it is the embedded one.
    pub async fn close(self) {
        #[cfg(feature = "embedded-s3")]
        if let Some(server) = self.server {
            server.shutdown().await;
        }
    }
}
