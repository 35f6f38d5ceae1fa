//! Builds an [`App`], the use cases of one service process, for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use upload_coordinator::app::bucket_identity::BucketTrust;
use upload_coordinator::app::database_clock::ClockOffset;
use upload_coordinator::app::locations::Locations;
use upload_coordinator::app::turns::Turns;
use upload_coordinator::app::{App, DirectSettings};
use upload_coordinator::auth::UploadTokenVerifier;
use upload_coordinator::db::Db;
use upload_coordinator::domain::clock::SystemClock;
use upload_coordinator::domain::damage::DamageLimit;
use upload_coordinator::domain::ids::SystemIds;
use upload_coordinator::domain::limits::MIN_PART_SIZE;
use upload_coordinator::domain::{Clock, IdSource, Policy, PolicyName};
use upload_coordinator::storage::Store;

/// The parts of an [`App`]. A test changes the fields that matter to it.
pub struct AppParts {
    pub db: Db,
    /// The store `default`.
    pub store: Store,
    pub policies: BTreeMap<PolicyName, Policy>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn IdSource>,
    /// The size of a part of direct uploads, in bytes.
    pub part_size: usize,
    pub damage: DamageLimit,
}

impl AppParts {
    /// Uses the default policies, the real time, and the smallest parts that S3 accepts.
    pub fn new(db: Db, store: Store) -> Self {
        Self {
            db,
            store,
            policies: super::policies(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            part_size: usize::try_from(MIN_PART_SIZE).unwrap(),
            damage: DamageLimit::default(),
        }
    }

    pub fn build(self) -> Arc<App> {
        let Self { db, store, policies, clock, ids, part_size, damage } = self;
        let stores = BTreeMap::from([("default".to_owned(), store)]);
        let direct = DirectSettings::new(true, part_size);
        let (buckets, clock_offset) = (BucketTrust::default(), ClockOffset::default());
        let turns = Turns::default();
        let token_verifier = UploadTokenVerifier::new(db.clone(), clock.clone());
        Arc::new(App {
            token_verifier,
            db,
            stores,
            policies,
            clock,
            ids,
            inspectors: BTreeMap::new(),
            direct,
            turns,
            locations: Locations::default(),
            buckets,
            clock_offset,
            media_threads: Semaphore::new(2),
            damage,
        })
    }
}

/// The use cases of another process on `db`, with the same stores, policies, clock and ids.
pub fn replica_of(app: &App, db: Db) -> App {
    App {
        token_verifier: UploadTokenVerifier::new(db.clone(), app.clock.clone()),
        db,
        stores: app.stores.clone(),
        policies: app.policies.clone(),
        clock: app.clock.clone(),
        ids: app.ids.clone(),
        inspectors: app.inspectors.clone(),
        direct: DirectSettings::new(app.direct.enabled, app.direct.part_size),
        turns: Turns::default(),
        locations: Locations::default(),
        buckets: BucketTrust::new(app.buckets.require_marker),
        clock_offset: ClockOffset::default(),
        media_threads: Semaphore::new(2),
        damage: app.damage,
    }
}
