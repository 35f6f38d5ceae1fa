//! Builds the concrete adapters from the configuration: the database, the stores, the queue,
//! authentication, the workers. No other code does this. Each failure names the setting.

#[cfg(feature = "embedded-s3")]
pub mod embedded;
pub mod inspectors;
pub mod queue;
pub mod security;
pub mod stores;
pub mod tls;
pub mod trace_collector;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use secrecy::SecretString;
use tokio::sync::Semaphore;

use super::patience::Patience;
use crate::app::bucket_identity::BucketTrust;
use crate::app::database_clock::ClockOffset;
use crate::app::locations::Locations;
use crate::app::retention::Retention;
use crate::app::turns::Turns;
use crate::app::webhooks::Endpoint;
use crate::app::{App, DirectSettings};
use crate::auth::UploadTokenVerifier;
use crate::config::{Config, Schedule};
use crate::db::uploads::Quota;
use crate::db::{Db, DbSettings};
use crate::domain::Location;
use crate::domain::clock::SystemClock;
use crate::domain::ids::SystemIds;
use crate::domain::webhook::Subscriber;
use crate::net::OutboundClient;
use crate::net::http_client;
use crate::reconcile::{DamageLimit, ReconcileSettings};
use crate::storage::metered::MeteredStore;
use crate::storage::queue::Queue;
use crate::workers::WorkerSettings;
use crate::workers::scheduler::Schedules;
use stores::OpenedStore;

/// The time limit of one webhook delivery.
const WEBHOOK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

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

/// Refuses a database whose schema this version can't work with.
pub async fn require_schema(db: &Db) -> anyhow::Result<()> {
    match db.schema().await?.problem() {
        Some(problem) => bail!("{problem}"),
        None => Ok(()),
    }
}

/// The resources that a command uses until it ends.
pub struct Adapters {
    /// The use cases.
    pub app: Arc<App>,
    /// The S3 servers in this process.
    #[cfg(feature = "embedded-s3")]
    pub embedded: Vec<embedded::EmbeddedServer>,
}

impl Adapters {
    /// Connects to the stores and builds the use cases. The database must be migrated.
    pub async fn connect(config: &Config, db: Db, patience: &Patience) -> anyhow::Result<Self> {
        config.require_stores()?;
        let http = http_client();
        let mut stores = BTreeMap::new();
        #[cfg(feature = "embedded-s3")]
        let mut embedded = Vec::new();
        let locations = db.locations().list().await.context("the locations of the policies")?;
        for (name, store) in &config.storage {
            let is_former = !config.stores_in_use().any(|(used, _)| used == name);
            if is_former && !locations.iter().any(|known| may_be_at(config, known, name)) {
                continue;
            }
            let opened = OpenedStore::open(name, store, &http).await?;
            let ready = async || opened.ready(name, config).await;
            let store = if is_former {
                // The store has only old files, so the service starts without it.
                ready().await.unwrap_or_else(|error| {
                    tracing::warn!(
                        store = name,
                        error = &*error as &dyn std::error::Error,
                        "the store of a former location can't be used now"
                    );
                    opened.store().clone()
                })
            } else {
                patience.until_available(&format!("storage.{name}"), ready).await?
            };
            stores.insert(name.to_owned(), MeteredStore::wrap(store));
            #[cfg(feature = "embedded-s3")]
            embedded.extend(opened.server);
        }
        let db = db.with_subscribers(subscribers(config)).with_quota(quota(config));
        db.uploads()
            .limit_watchers(config.limits.waiters, config.share(config.limits.waiters_per_owner));
        let app = App {
            token_verifier: UploadTokenVerifier::new(db.clone(), Arc::new(SystemClock)),
            db,
            stores,
            policies: config.domain_policies(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            inspectors: inspectors::inspectors(config),
            direct: DirectSettings::new(
                config.direct_upload.enabled,
                config.direct_upload.part_size.as_usize(),
            ),
            turns: Turns::default(),
            locations: Locations::default(),
            buckets: BucketTrust::new(config.server.require_marker.unwrap_or(true)),
            clock_offset: ClockOffset::default(),
            media_threads: Semaphore::new(config.media_concurrency()),
            damage: damage_limit(config),
        };
        if let Err(error) = app.measure_clock_offset().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the database's clock could not be read; it will be read later"
            );
        }
        app.register_locations().await.context("the locations of the policies")?;
        Ok(Self {
            app: Arc::new(app),
            #[cfg(feature = "embedded-s3")]
            embedded,
        })
    }

    /// Stops the embedded servers and closes the database.
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

/// Whether the configured store `name` may contain the files of a location. It must have the
/// location's bucket, and either the name of the location's store, or that store must no longer be
/// configured with this bucket, because then it may have been renamed.
fn may_be_at(config: &Config, location: &Location, name: &str) -> bool {
    let is_at = |name: &str| {
        let store = config.storage.get(name);
        store.and_then(|store| store.bucket(name).ok()) == Some(location.bucket.as_str())
    };
    is_at(name) && (location.store == name || !is_at(&location.store))
}

/// The limit of damage of one run. The same limit applies to all requests and events of one hour
/// together.
fn damage_limit(config: &Config) -> DamageLimit {
    let reconcile = &config.reconcile;
    DamageLimit {
        max: reconcile.damage_max,
        min: reconcile.damage_min,
        ratio: reconcile.damage_ratio,
    }
}

/// The upload quota of each owner.
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

/// The webhook endpoints, with the events that each receives.
fn subscribers(config: &Config) -> Vec<Subscriber> {
    let endpoints = config.webhooks.endpoints.iter();
    endpoints
        .map(|(name, endpoint)| Subscriber { name: name.clone(), events: endpoint.events.clone() })
        .collect()
}

/// The HTTP client of webhooks.
pub fn webhook_client(config: &Config) -> OutboundClient {
    OutboundClient::new(WEBHOOK_TIMEOUT, config.webhooks.allow_private)
}

/// Builds what the workers need. A queue that can't be reached does not keep the service from
/// starting: bucket events are only hints.
pub async fn workers(config: &Config) -> anyhow::Result<WorkerSettings> {
    let endpoints = config.webhooks.endpoints.iter().filter_map(|(name, endpoint)| {
        // A validated configuration has a URL and a key for each endpoint.
        Some(Endpoint { name: name.clone(), url: endpoint.url()?, secret: endpoint.key()? })
    });
    let sqs = &config.events.sqs;
    let queue = queue::open(sqs, &http_client()).await?;
    let bucket_events = queue.map(|queue| {
        tracing::info!(queue = sqs.queue_url, pollers = sqs.pollers, "receiving bucket events");
        (Arc::new(queue) as Arc<dyn Queue>, sqs.pollers)
    });
    Ok(WorkerSettings {
        schedules: schedules(config),
        reconcile_at_start: config.reconcile.run_at_start,
        endpoints: endpoints.collect(),
        client: webhook_client(config),
        bucket_events,
    })
}

/// The settings of reconciliation runs.
pub fn reconcile_settings(config: &Config) -> ReconcileSettings {
    let reconcile = &config.reconcile;
    ReconcileSettings {
        lease: reconcile.lease.get(),
        late_window: reconcile.late_window.delta(),
        concurrency: reconcile.concurrency,
        max_requests_per_second: reconcile.max_requests_per_second,
        page_size: reconcile.page_size,
        max_deletions: reconcile.max_deletions,
        damage: damage_limit(config),
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
