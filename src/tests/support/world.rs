//! The use cases on a real database, with a store in memory and a clock that the test controls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use chrono::TimeDelta;
use upload_coordinator::app::bucket_identity::CheckOptions;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::{App, AppError};
use upload_coordinator::db::tracks::TrackFields;
use upload_coordinator::domain::clock::ManualClock;
use upload_coordinator::domain::ids::SystemIds;
use upload_coordinator::domain::marker::BucketIdentity;
use upload_coordinator::domain::run::{Mode, Run, RunRequest, StoredFinding, Trigger};
use upload_coordinator::domain::{
    Clock, IdSource, Owner, Policy, PolicyName, RunId, Track, Upload, UploadId,
};
use upload_coordinator::reconcile::{DamageLimit, ReconcileSettings, Reconciler};
use upload_coordinator::storage::memory::MemoryStore;
use upload_coordinator::storage::{ListRequest, ObjectStore, PartIntegrity, PutOptions, Store};
use uuid::Uuid;

use super::app::{AppParts, replica_of};
use super::database::TestDatabase;

/// The size of the parts of direct uploads, in bytes.
const PART_SIZE: usize = 4096;

/// Ids that a counter distributes over the 16 shards. So the number of ids in each shard does not
/// depend on the time.
#[derive(Default)]
struct EvenIds(AtomicU8);

impl IdSource for EvenIds {
    fn uuid(&self) -> Uuid {
        let mut bytes = SystemIds.uuid().into_bytes();
        let turn = self.0.fetch_add(1, Ordering::Relaxed) % 16;
        bytes[15] = bytes[15] & 0xf0 | turn;
        Uuid::from_bytes(bytes)
    }
}

pub struct World {
    pub app: Arc<App>,
    pub store: Arc<MemoryStore>,
    /// The bucket in use: the store in memory, or a store with a network connection.
    pub objects: Arc<dyn ObjectStore>,
    pub clock: Arc<ManualClock>,
    pub reconciler: Arc<Reconciler>,
    pub owner: Owner,
    database: Arc<TestDatabase>,
}

impl World {
    /// A world with the default policy.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A world whose policy is changed by `change`.
    pub async fn with(change: impl FnOnce(&mut Policy)) -> Self {
        let change = |policies: &mut BTreeMap<_, Policy>| {
            policies.values_mut().next().map(change);
        };
        Self::build(change, |_| Arc::new(EvenIds::default())).await
    }

    /// A world whose policies are changed by `change`, and whose ids come from `ids`.
    pub async fn build(
        change: impl FnOnce(&mut BTreeMap<PolicyName, Policy>),
        ids: impl FnOnce(Arc<ManualClock>) -> Arc<dyn IdSource>,
    ) -> Self {
        Self::build_on(None, change, ids).await
    }

    /// Like [`Self::build`], but on the store `bucket` if it is given.
    pub async fn build_on(
        bucket: Option<Store>,
        change: impl FnOnce(&mut BTreeMap<PolicyName, Policy>),
        ids: impl FnOnce(Arc<ManualClock>) -> Arc<dyn IdSource>,
    ) -> Self {
        Self::build_in(TestDatabase::create().await, bucket, change, ids).await
    }

    /// A world whose database is a file, so that it can be copied.
    pub async fn in_file(change: impl FnOnce(&mut Policy)) -> Self {
        let change = |policies: &mut BTreeMap<_, Policy>| {
            policies.values_mut().next().map(change);
        };
        let ids = |_| Arc::new(EvenIds::default()) as Arc<dyn IdSource>;
        Self::build_in(TestDatabase::in_file(), None, change, ids).await
    }

    async fn build_in(
        database: TestDatabase,
        bucket: Option<Store>,
        change: impl FnOnce(&mut BTreeMap<PolicyName, Policy>),
        ids: impl FnOnce(Arc<ManualClock>) -> Arc<dyn IdSource>,
    ) -> Self {
        let db = database.migrated().await;
        // The real time, because leases use the database's own clock.
        let start = upload_coordinator::domain::clock::SystemClock.now();
        let clock = Arc::new(ManualClock::new(start));
        let store = Arc::new(MemoryStore::new(clock.clone()).with_min_part_size(1));
        let mut policies = super::policies();
        change(&mut policies);
        let memory = || store.clone().store("default", None).unwrap();
        let bucket = bucket.unwrap_or_else(memory);
        let objects = bucket.objects.clone();
        let app = AppParts {
            policies,
            clock: clock.clone(),
            ids: ids(clock.clone()),
            part_size: PART_SIZE,
            ..AppParts::new(db, bucket)
        }
        .build();
        let settings = ReconcileSettings { page_size: 7, ..ReconcileSettings::default() };
        let reconciler = Arc::new(Reconciler::new(app.clone(), settings));
        let claimed = app.check_buckets().await;
        // A test may have a policy whose store does not exist.
        assert!(matches!(claimed, Ok(()) | Err(AppError::Unconfigured(_))), "{claimed:?}");
        Self {
            app,
            store,
            objects,
            clock,
            reconciler,
            owner: Owner::anonymous(),
            database: Arc::new(database),
        }
    }

    /// The same database, store and clock after a restart of the service with other policies and
    /// another damage limit.
    pub async fn reconfigured(&self, change: impl Fn(&mut Policy), damage: DamageLimit) -> Self {
        let change = |app: &mut App| {
            app.policies.values_mut().for_each(change);
            app.damage = damage;
        };
        self.restarted(change).await
    }

    /// The same database and clock after a restart of the service with another configuration.
    pub async fn restarted(&self, change: impl FnOnce(&mut App)) -> Self {
        let mut app = self.replica().await;
        change(&mut app);
        let app = Arc::new(app);
        let settings = ReconcileSettings { damage: app.damage, ..self.reconciler.settings.clone() };
        Self {
            reconciler: Arc::new(Reconciler::new(app.clone(), settings)),
            app,
            store: self.store.clone(),
            objects: self.objects.clone(),
            clock: self.clock.clone(),
            owner: self.owner.clone(),
            database: self.database.clone(),
        }
    }

    /// A process on a copy of the database, with the same store and clock. Only for a world whose
    /// database is a file.
    pub async fn copy(&self) -> Self {
        let database = self.database.copy().await;
        let app = Arc::new(replica_of(&self.app, database.connect().await));
        let settings = self.reconciler.settings.clone();
        Self {
            reconciler: Arc::new(Reconciler::new(app.clone(), settings)),
            app,
            store: self.store.clone(),
            objects: self.objects.clone(),
            clock: self.clock.clone(),
            owner: self.owner.clone(),
            database: Arc::new(database),
        }
    }

    /// Executes a statement on the database.
    pub async fn execute(&self, statement: &str) {
        self.database.execute(statement).await;
    }

    /// The URL of the database.
    pub fn database_url(&self) -> &str {
        &self.database.url
    }

    /// The only policy.
    pub fn policy(&self) -> &Policy {
        self.app.policies.values().next().unwrap()
    }

    /// Whether the bucket belongs to this world's database, according to a new check.
    pub async fn identity(&self) -> BucketIdentity {
        self.app.check_bucket(self.policy(), CheckOptions::default()).await.unwrap()
    }

    /// The use cases of another process on the same database and store.
    pub async fn replica(&self) -> App {
        replica_of(&self.app, self.database.connect().await)
    }

    /// Another process on the same database and store, which can be killed.
    pub async fn process(&self, change: impl FnOnce(&mut ReconcileSettings)) -> Process {
        let mut settings = self.reconciler.settings.clone();
        change(&mut settings);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let database = self.database.url.clone();
        let app = self.app.clone();
        let reconciler = runtime.spawn(async move {
            let db = super::database::open(&database).await;
            Arc::new(Reconciler::new(Arc::new(replica_of(&app, db)), settings))
        });
        let reconciler = reconciler.await.unwrap();
        Process { reconciler, runtime: Some(runtime) }
    }

    /// The rows of a run's shards, by ascending number.
    pub async fn shards(&self, run: RunId) -> Vec<entity::reconcile_shard::Model> {
        use entity::reconcile_shard::{Column, Entity};
        use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};
        let connection = sea_orm::Database::connect(&self.database.url).await.unwrap();
        let query = Entity::find().filter(Column::RunId.eq(run.0)).order_by_asc(Column::Number);
        let rows = query.all(&connection).await.unwrap();
        connection.close().await.unwrap();
        rows
    }

    /// The scheduled times for which runs were started.
    pub async fn ticks(&self) -> Vec<Option<chrono::DateTime<chrono::Utc>>> {
        use sea_orm::EntityTrait as _;
        let connection = sea_orm::Database::connect(&self.database.url).await.unwrap();
        let rows = entity::reconcile_run::Entity::find().all(&connection).await.unwrap();
        connection.close().await.unwrap();
        rows.into_iter().map(|row| row.scheduled_for).collect()
    }

    /// Advances the clock.
    pub fn pass(&self, delta: TimeDelta) {
        self.clock.advance(delta);
    }

    /// Advances the clock past every deadline and grace of the default policy.
    pub fn pass_the_deadline(&self) {
        self.pass(TimeDelta::hours(2));
    }

    pub async fn track(&self) -> Track {
        let fields =
            TrackFields { title: "Title".into(), artist_name: "Artist".into(), release_date: None };
        self.app.create_track(&self.owner, fields).await.unwrap()
    }

    /// An upload without declared values.
    pub async fn upload(&self) -> Upload {
        self.create(NewUpload::default()).await
    }

    pub async fn create(&self, new: NewUpload) -> Upload {
        self.app.create_upload(&self.owner, new).await.unwrap().upload
    }

    /// Sends the client's PUT.
    pub async fn put(&self, upload: &Upload, bytes: impl Into<Bytes>) {
        self.put_key(upload.key.as_str(), bytes).await;
    }

    pub async fn put_key(&self, key: &str, bytes: impl Into<Bytes>) {
        self.objects.put(key, bytes.into(), &PutOptions::default()).await.unwrap();
    }

    /// Writes an object again in parts, as another tool's copy does: its ETag is not an MD5.
    pub async fn write_again(&self, key: &str, bytes: impl Into<Bytes>) {
        let options = PutOptions::default();
        let id = self.objects.create_multipart(key, &options).await.unwrap();
        let integrity = PartIntegrity::Signature;
        let part = self.objects.upload_part(key, &id, 1, bytes.into(), integrity).await.unwrap();
        self.objects.complete_multipart(key, &id, &[part], false).await.unwrap();
    }

    /// The keys of all objects, ascending.
    pub async fn keys(&self) -> Vec<String> {
        if self.is_in_memory() {
            return self.store.keys();
        }
        let (mut keys, mut request) = (Vec::new(), ListRequest::default());
        loop {
            let page = self.objects.list(&request).await.unwrap();
            keys.extend(page.objects.into_iter().map(|object| object.key));
            match page.next {
                Some(token) => request.token = Some(token),
                None => return keys,
            }
        }
    }

    /// Whether the bucket is the store in memory, which can produce failures on demand.
    pub fn is_in_memory(&self) -> bool {
        let memory: Arc<dyn ObjectStore> = self.store.clone();
        Arc::ptr_eq(&memory, &self.objects)
    }

    /// Changes the location in the row of an upload, without the service.
    pub async fn set_location(&self, upload: &Upload, number: i32) {
        let key = &upload.key;
        let sql = format!("UPDATE uploads SET location = {number} WHERE key = '{key}'");
        super::database::execute(&self.database.url, &sql).await;
    }

    pub async fn get(&self, id: UploadId) -> Upload {
        self.app.upload(&self.owner, id).await.unwrap()
    }

    pub async fn reconcile(&self, mode: Mode) -> Run {
        self.reconcile_with(|_| {}, mode).await
    }

    pub async fn reconcile_with(&self, change: impl FnOnce(&mut RunRequest), mode: Mode) -> Run {
        let mut request = RunRequest::of(mode, Trigger::Api);
        change(&mut request);
        self.reconciler.start(request).await.unwrap().wait().await
    }

    /// The findings of a run with kind, key and detail, sorted, because their order does not
    /// matter.
    pub async fn findings_with_details(
        &self,
        run: &Run,
    ) -> Vec<(&'static str, String, Option<String>)> {
        let found = self.stored_findings(run).await.into_iter().map(|known| known.finding);
        let mut reported: Vec<_> = found.map(|f| (f.kind.name(), f.key, f.detail)).collect();
        reported.sort();
        reported
    }

    /// The kinds of a run's findings, with their keys.
    pub async fn findings(&self, run: &Run) -> Vec<(&'static str, String)> {
        let found = self.stored_findings(run).await.into_iter().map(|known| known.finding);
        found.map(|finding| (finding.kind.name(), finding.key)).collect()
    }

    /// The number of stored findings.
    pub async fn finding_rows(&self) -> u64 {
        use sea_orm::{EntityTrait as _, PaginatorTrait as _};
        let connection = sea_orm::Database::connect(&self.database.url).await.unwrap();
        let rows = entity::finding::Entity::find().count(&connection).await.unwrap();
        connection.close().await.unwrap();
        rows
    }

    /// The stored findings of a run.
    pub async fn stored_findings(&self, run: &Run) -> Vec<StoredFinding> {
        let page = self.app.db.findings().list(run, None, None, 1000).await.unwrap();
        assert!(page.next.is_none(), "all of them");
        page.items
    }
}

/// A process that works on runs.
pub struct Process {
    pub reconciler: Arc<Reconciler>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Process {
    /// Starts a run in this process.
    pub async fn start(&self, request: RunRequest) -> RunId {
        let reconciler = self.reconciler.clone();
        let runtime = self.runtime.as_ref().unwrap();
        let started = runtime.spawn(async move { reconciler.start(request).await });
        started.await.unwrap().unwrap().run.id
    }

    /// `kill -9`: everything that the process does stops at once. Returns the process's id as a
    /// holder of shards.
    pub fn kill(mut self) -> uuid::Uuid {
        self.runtime.take().unwrap().shutdown_background();
        self.reconciler.holder()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
