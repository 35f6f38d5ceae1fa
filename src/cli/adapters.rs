//! Builds what the configuration names: the database, the stores, the use cases. Each
//! failure is one sentence that names the setting.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use aws_sdk_s3::config::SharedHttpClient;
use secrecy::SecretString;

use crate::app::retention::Retention;
use crate::app::webhooks::Endpoint;
use crate::app::{App, DirectSettings};
use crate::config::{Config, Schedule, StoreConfig, StoreKind};
use crate::db::quota::Quota;
use crate::db::{Db, DbSettings};
use crate::domain::IdSource as _;
use crate::domain::clock::SystemClock;
use crate::domain::ids::SystemIds;
use crate::domain::webhook::Subscriber;
use crate::net::OutboundClient;
use crate::net::{HttpClient, http_client};
use crate::reconcile::ReconcileSettings;
use crate::storage::metered::Metered;
use crate::storage::probe::{self, Outcome, ProbeOptions};
use crate::storage::queue::Queue;
use crate::storage::s3::{S3, S3Credentials, S3Settings, Timeouts};
use crate::storage::{Capabilities, Store};
use crate::workers::WorkerSettings;
use crate::workers::scheduler::Schedules;

/// The region of stores that don't care, and of `dev`.
pub const DEFAULT_REGION: &str = "us-east-1";

/// How long a receiver of webhooks may take to answer.
const WEBHOOK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// How long one request of a probe may take.
const PROBE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// Opens the database that `database.url` names.
pub async fn database(config: &Config) -> anyhow::Result<Db> {
    let settings = DbSettings {
        url: SecretString::from(config.database.url.expose()),
        max_connections: config.database.max_connections,
        busy_timeout: config.database.busy_timeout.get(),
    };
    let db = Db::connect(&settings).await;
    db.with_context(|| format!("database.url: can't open {}", config.database.url.masked()))
}

/// Everything that holds a resource while the service runs.
pub struct Adapters {
    /// The use cases.
    pub app: Arc<App>,
    /// The S3 servers in this process.
    #[cfg(feature = "embedded-s3")]
    pub embedded: Vec<super::embedded::Server>,
}

impl Adapters {
    /// Connects to everything. The database must be migrated.
    pub async fn connect(config: &Config, db: Db) -> anyhow::Result<Self> {
        config.require_stores()?;
        let http = http_client();
        let mut stores = BTreeMap::new();
        #[cfg(feature = "embedded-s3")]
        let mut embedded = Vec::new();
        for (name, store) in config.stores_in_use() {
            let opened = Opened::open(name, store, &http).await?;
            stores.insert(name.to_owned(), Metered::over(opened.ready(name, config).await?));
            #[cfg(feature = "embedded-s3")]
            embedded.extend(opened.server);
        }
        let db = db.with_subscribers(subscribers(config)).with_quota(quota(config));
        db.limit_waiters(config.limits.waiters, config.share(config.limits.waiters_per_owner));
        let app = App {
            db,
            stores,
            policies: config.domain_policies(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            direct: DirectSettings::new(
                config.direct_upload.enabled,
                config.direct_upload.part_size.as_usize(),
            ),
        };
        Ok(Self {
            app: Arc::new(app),
            #[cfg(feature = "embedded-s3")]
            embedded,
        })
    }

    /// Lets everything go.
    pub async fn close(self) {
        #[cfg(feature = "embedded-s3")]
        for server in self.embedded {
            server.shutdown().await;
        }
        if let Err(error) = self.app.db.clone().close().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the database did not close");
        }
    }
}

/// How many uploads each owner may have.
fn quota(config: &Config) -> Quota {
    let some = |limit: u64| (limit > 0).then_some(limit);
    let policies = config.domain_policies();
    Quota {
        pending_uploads: some(config.limits.pending_uploads),
        pending_bytes: some(config.limits.pending_bytes.bytes()),
        uploads_per_day: some(config.limits.uploads_per_day),
        max_sizes: policies.values().map(|p| (p.name.as_str().to_owned(), p.max_size)).collect(),
    }
}

/// Who is told of changes.
fn subscribers(config: &Config) -> Vec<Subscriber> {
    let endpoints = config.webhooks.endpoints.iter();
    endpoints
        .map(|(name, endpoint)| Subscriber { name: name.clone(), events: endpoint.events.clone() })
        .collect()
}

/// Builds what the workers need. A queue that can't be reached does not keep the service from
/// starting: bucket events are only hints.
pub async fn workers(config: &Config) -> anyhow::Result<WorkerSettings> {
    let endpoints = config.webhooks.endpoints.iter().filter_map(|(name, endpoint)| {
        // The configuration was validated: both are there.
        Some(Endpoint { name: name.clone(), url: endpoint.url()?, secret: endpoint.key()? })
    });
    let sqs = &config.events.sqs;
    let queue = super::queue::open(sqs, &http_client()).await?;
    let bucket_events = queue.map(|queue| {
        tracing::info!(queue = sqs.queue_url, pollers = sqs.pollers, "receiving bucket events");
        (Arc::new(queue) as Arc<dyn Queue>, sqs.pollers)
    });
    Ok(WorkerSettings {
        schedules: schedules(config),
        reconcile_at_start: config.reconcile.run_at_start,
        endpoints: endpoints.collect(),
        client: OutboundClient::new(WEBHOOK_TIMEOUT, config.webhooks.allow_private),
        bucket_events,
    })
}

/// A bucket as configured, of which nothing was asked yet.
pub struct Opened {
    /// The bucket, for what the seam has no call for.
    pub s3: S3,
    /// The bucket as the service sees it, with what is assumed of it.
    pub store: Store,
    /// Where its store runs in this process.
    #[cfg(feature = "embedded-s3")]
    pub server: Option<super::embedded::Server>,
}

impl Opened {
    /// Starts the store's server where that is ours; else nothing is sent yet.
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
                let server = super::embedded::Server::start(name, config).await?;
                started.insert(server).settings(name, config)?
            }
            #[cfg(not(feature = "embedded-s3"))]
            StoreKind::Embedded => bail!("storage.{name}.kind: this build has no embedded store"),
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

    /// Makes sure that the bucket is there, and where that is configured finds out what its
    /// store can do.
    async fn ready(&self, name: &str, config: &Config) -> anyhow::Result<Store> {
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
                    mend = check.mend.as_deref(), "the store enforces less than it might");
            }
            store.capabilities = report.capabilities.into();
        }
        Ok(store)
    }

    /// Finds out what the store does and enforces, for browsers on these origins as well.
    pub async fn probe(&self, config: &Config, origins: &[String]) -> probe::Report {
        let options = self.probe_options(config, origins);
        probe::probe(&self.store, &HttpClient::new(PROBE_TIMEOUT), &SystemClock, &options).await
    }

    /// Looks again at what browsers may do.
    pub async fn probe_cors(&self, config: &Config, origins: &[String]) -> probe::Check {
        let options = self.probe_options(config, origins);
        probe::cors(&self.store, &HttpClient::new(PROBE_TIMEOUT), &SystemClock, &options).await
    }

    /// Below a policy's prefix: the access key may be good for nothing else.
    fn probe_options(&self, config: &Config, origins: &[String]) -> ProbeOptions {
        let mut policies = config.policies.values();
        let policy = policies.find(|policy| policy.store == self.store.name);
        ProbeOptions {
            prefix: policy.map(|policy| policy.prefix.to_string()).unwrap_or_default(),
            run: SystemIds.uuid(),
            origins: origins.to_vec(),
        }
    }

    /// Lets the store's server go, where that is ours.
    pub async fn close(self) {
        #[cfg(feature = "embedded-s3")]
        if let Some(server) = self.server {
            server.shutdown().await;
        }
    }
}

/// What the configuration says of a store, as the store's adapter takes it.
async fn s3_settings(name: &str, store: &StoreConfig) -> anyhow::Result<S3Settings> {
    let at = |key: &str| format!("storage.{name}.{key}");
    let url = |key: &str, text: Option<&str>| {
        text.map(url::Url::parse).transpose().with_context(|| at(key))
    };
    let credentials = match (&store.access_key_id, &store.secret_access_key) {
        (Some(id), Some(secret)) => S3Credentials::Static {
            access_key_id: id.clone(),
            secret_access_key: secret.clone(),
            session_token: store.session_token.clone(),
        },
        (None, None) => S3Credentials::Chain,
        _ => bail!("{} and {} belong together", at("access_key_id"), at("secret_access_key")),
    };
    let region = match &store.region {
        Some(region) => region.clone(),
        None => region_of_environment()
            .await
            .or_else(|| store.endpoint.is_some().then(|| DEFAULT_REGION.to_owned()))
            .ok_or_else(|| anyhow!("{}: takes the bucket's region", at("region")))?,
    };
    let endpoint = url("endpoint", store.endpoint.as_deref())?;
    Ok(S3Settings {
        public_endpoint: url("public_endpoint", store.public_endpoint())?,
        path_style: store.uses_path_style(),
        timeouts: timeouts(store),
        ..S3Settings::new(endpoint, region, store.bucket(name)?, credentials)
    })
}

/// How long to wait for a store, as configured.
pub fn timeouts(store: &StoreConfig) -> Timeouts {
    let operation = store.operation_timeout.get();
    Timeouts {
        connect: store.connect_timeout.get(),
        operation,
        attempt: Timeouts::default().attempt.min(operation),
        ..Timeouts::default()
    }
}

/// The region of the standard `AWS_*` variables and profiles.
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

/// How runs work, as configured.
pub fn reconcile_settings(config: &Config) -> ReconcileSettings {
    let reconcile = &config.reconcile;
    ReconcileSettings {
        lease: reconcile.lease.get(),
        late_window: reconcile.late_window.delta(),
        concurrency: reconcile.concurrency,
        max_requests_per_second: reconcile.max_requests_per_second,
        page_size: reconcile.page_size,
        max_deletions: reconcile.max_deletions,
        ..ReconcileSettings::default()
    }
}

/// When the scheduled jobs run.
fn schedules(config: &Config) -> Schedules {
    let cron = |schedule: &Schedule| schedule.cron().map(str::to_owned);
    Schedules {
        incremental: cron(&config.reconcile.schedule),
        audit: cron(&config.reconcile.audit_schedule),
        retention: Some(Retention {
            findings: config.reconcile.findings_retention.delta(),
            ended: Some(config.reconcile.ended_retention.delta()).filter(|d| !d.is_zero()),
            deliveries: config.webhooks.retention.delta(),
        }),
    }
}
