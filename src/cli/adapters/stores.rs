//! Opens the stores of the configuration, and probes what they support.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use aws_sdk_s3::config::SharedHttpClient;
use secrecy::SecretString;

use super::DEFAULT_REGION;
#[cfg(feature = "embedded-s3")]
use super::embedded::EmbeddedServer;
use crate::config::{Config, StoreConfig, StoreKind};
use crate::domain::IdSource as _;
use crate::domain::clock::SystemClock;
use crate::domain::ids::SystemIds;
use crate::net::HttpClient;
use crate::storage::probe::{self, Outcome, ProbeOptions};
use crate::storage::s3::{self, S3, S3Credentials, S3Settings, Timeouts};
use crate::storage::{Capabilities, Store};

/// The time limit of one request of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// A configured bucket, before the first request to it.
pub struct OpenedStore {
    /// The S3 client, for calls that [`Store`] does not have.
    pub s3: S3,
    /// The bucket as the service uses it, with assumed capabilities.
    pub store: Store,
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
        #[cfg(feature = "embedded-s3")]
        let mut started = None;
        let (settings, assumed) = match config.kind {
            StoreKind::S3 => {
                let settings = s3_settings(name, config).await?;
                let assumed = match settings.endpoint {
                    None => Capabilities::aws(),
                    Some(_) => Capabilities::conservative(),
                };
                (settings, assumed)
            }
            #[cfg(feature = "embedded-s3")]
            StoreKind::Embedded => {
                let server = EmbeddedServer::start(name, config).await?;
                started.insert(server).settings(name, config)?
            }
            #[cfg(not(feature = "embedded-s3"))]
            StoreKind::Embedded => anyhow::bail!(
                "storage.{name}.kind: this build has no embedded store; build it with the feature `embedded-s3`"
            ),
        };
        let s3 = S3::connect(&settings, http)
            .await
            .with_context(|| format!("storage.{name}.endpoint"))?;
        let store = s3.clone().into_store(name, assumed);
        Ok(Self {
            s3,
            store,
            #[cfg(feature = "embedded-s3")]
            server: started,
        })
    }

    /// Checks that the bucket exists, and probes the capabilities if `probe` is configured.
    pub(super) async fn ready(&self, name: &str, config: &Config) -> anyhow::Result<Store> {
        let at = |key: &str| format!("storage.{name}.{key}");
        let mut store = self.store.clone();
        let StoreConfig { kind, probe, .. } = config.storage[name];
        if kind == StoreKind::Embedded {
            store.objects.create_bucket().await.with_context(|| at("bucket"))?;
        }
        store.objects.check_bucket().await.with_context(|| {
            format!("{}: can't use the bucket `{}`", at("bucket"), store.bucket)
        })?;
        if probe && kind == StoreKind::S3 {
            let report = self.probe(config, &[]).await;
            for check in report.checks.iter().filter(|check| check.outcome != Outcome::Pass) {
                tracing::warn!(store = name, check = %check.name, saw = %check.saw,
                    mend = check.mend.as_deref(), "a check of the store did not pass");
            }
            store.capabilities = report.capabilities.into();
        }
        Ok(store)
    }

    /// Finds out what the store supports and enforces, also for browsers on these origins.
    pub async fn probe(&self, config: &Config, origins: &[String]) -> probe::Report {
        let options = self.probe_options(config, origins);
        s3::probe::probe(&self.store, &HttpClient::new(PROBE_TIMEOUT), &SystemClock, &options).await
    }

    /// Repeats the check of the CORS rules.
    pub async fn probe_cors(&self, config: &Config, origins: &[String]) -> probe::Check {
        let options = self.probe_options(config, origins);
        s3::probe::cors(&self.store, &HttpClient::new(PROBE_TIMEOUT), &SystemClock, &options).await
    }

    /// The probe writes below a policy's prefix, because the access key may be limited to it.
    fn probe_options(&self, config: &Config, origins: &[String]) -> ProbeOptions {
        let mut policies = config.policies.values();
        let policy = policies.find(|policy| policy.store == self.store.name);
        ProbeOptions {
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

/// The adapter's settings of a store of kind `s3`.
async fn s3_settings(name: &str, store: &StoreConfig) -> anyhow::Result<S3Settings> {
    let at = |key: &str| format!("storage.{name}.{key}");
    let url = |key: &str, text: Option<&str>| {
        text.map(url::Url::parse).transpose().with_context(|| at(key))
    };
    let credentials = credentials(
        store.access_key_id.as_ref(),
        store.secret_access_key.as_ref(),
        store.session_token.as_ref(),
    );
    let region = match &store.region {
        Some(region) => region.clone(),
        None => region_of_environment()
            .await
            .or_else(|| store.endpoint.is_some().then(|| DEFAULT_REGION.to_owned()))
            .ok_or_else(|| anyhow!("{}: is missing; set the region of the bucket", at("region")))?,
    };
    let endpoint = url("endpoint", store.endpoint.as_deref())?;
    Ok(S3Settings {
        public_endpoint: url("public_endpoint", store.public_endpoint())?,
        path_style: store.uses_path_style(),
        timeouts: timeouts(store),
        ..S3Settings::new(endpoint, region, store.bucket(name)?, credentials)
    })
}

/// A configured access key, or the standard chain of credentials. The configuration is
/// validated: id and secret are both set or both missing.
pub fn credentials(
    id: Option<&String>,
    secret: Option<&SecretString>,
    session_token: Option<&SecretString>,
) -> S3Credentials {
    match (id, secret) {
        (Some(id), Some(secret)) => S3Credentials::Static {
            access_key_id: id.clone(),
            secret_access_key: secret.clone(),
            session_token: session_token.cloned(),
        },
        _ => S3Credentials::Chain,
    }
}

/// The time limits of a store.
pub fn timeouts(store: &StoreConfig) -> Timeouts {
    let operation = store.operation_timeout.get();
    Timeouts {
        connect: store.connect_timeout.get(),
        operation,
        attempt: Timeouts::default().attempt.min(operation),
        ..Timeouts::default()
    }
}

/// The region from the standard `AWS_*` variables and profiles.
pub async fn region_of_environment() -> Option<String> {
    use aws_config::environment::EnvironmentVariableRegionProvider;
    use aws_config::meta::region::RegionProviderChain;
    use aws_config::profile::ProfileFileRegionProvider;
    let found = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .region()
        .await;
    found.map(|region| region.as_ref().to_owned())
}
