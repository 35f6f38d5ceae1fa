//! The database: the only user of `entity` and `sea_orm`.
//!
//! One repository for each aggregate: `db.uploads().find(..)`. A repository is a small value that
//! borrows the parts of [`Db`] that it needs. Rows become domain values by `TryFrom`; a row that
//! cannot be converted is [`DbError::Corrupt`], with table, column and id. Methods on rows that
//! belong to an owner take the [`Owner`](crate::domain::Owner); the reconciler reads rows of all
//! owners with [`reconcile::scan`].
//!
//! `engine` holds the connections and does not depend on any table. Repositories import `engine`,
//! and may import each other without cycles (`scripts/check-layers` checks this). Only this file
//! imports all repositories.
//!
//! To add a table `things`:
//! 1. `migration`: a new step that creates it, with its columns' documentation.
//! 2. `entity/src/thing.rs`: the sea-orm model.
//! 3. `src/db/things.rs`: `pub struct Things<'a>(pub(in crate::db) &'a Engine)` with short verbs
//!    (`find`, `list`, `create`, `save`, `delete`), and `TryFrom<thing::Model>` for the domain
//!    value. Lookups return `Result<Option<T>>`. A change checks the number of affected rows.
//! 4. Here: `pub mod things;` and an accessor.
//! 5. A unit test with `testing::on_both`, which runs on `SQLite` and PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

pub mod api_keys;
pub mod attachments;
mod cursor_key;
mod engine;
pub mod idempotency;
pub mod inspections;
pub mod locations;
pub mod multipart_aborts;
pub mod object_copies;
pub mod reconcile;
pub mod retention;
mod schema;
mod space;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod tracks;
pub mod tus;
pub mod upload_tokens;
pub mod uploads;
pub mod url_end_checks;
pub mod webhooks;

pub use engine::connect::DbSettings;
pub use engine::error::{DbError, Result};
pub use engine::pagination::{Cursor, CursorKey, Page};
pub use schema::Schema;

use api_keys::ApiKeys;
use attachments::Attachments;
use engine::pool::Engine;
use idempotency::Idempotency;
use inspections::Inspections;
use locations::Locations;
use multipart_aborts::MultipartAborts;
use object_copies::ObjectCopies;
use reconcile::damage::Damage;
use reconcile::findings::Findings;
use reconcile::finish_shards::{self, ShardFinisher};
use reconcile::marker::Markers;
use reconcile::missing_candidates::MissingCandidates;
use reconcile::runs::Runs;
use reconcile::scan::Scan;
use reconcile::shards::Shards;
use retention::Retention;
use stats::{CountCache, Stats};
use tracks::Tracks;
use tus::{LeaseRenewals, TusUploads};
use upload_tokens::UploadTokens;
use uploads::{Quota, Uploads, UploadsState};
use url_end_checks::UrlEndChecks;
use webhooks::{Outbox, Webhooks};

use crate::domain::Timestamp;
use crate::domain::webhook::Subscriber;

/// An open database. Clones share its connections.
#[derive(Clone)]
pub struct Db {
    engine: Engine,
    uploads: UploadsState,
    outbox: Arc<Outbox>,
    shard_finisher: ShardFinisher,
    lease_renewals: LeaseRenewals,
    counts: Arc<CountCache>,
    space: Arc<space::Space>,
}

impl Db {
    /// Opens the database; `SQLite` creates the file.
    pub async fn connect(settings: &DbSettings) -> Result<Self> {
        let engine = Engine::connect(settings).await?;
        Ok(Self {
            uploads: UploadsState::new(&engine),
            outbox: Arc::default(),
            shard_finisher: finish_shards::start(engine.write.clone()),
            lease_renewals: tus::start_renewals(engine.write.clone()),
            counts: Arc::default(),
            space: Arc::default(),
            engine,
        })
    }

    /// The same database, with subscribers: changes of uploads write webhook deliveries for them.
    #[must_use]
    pub fn with_subscribers(self, subscribers: Vec<Subscriber>) -> Self {
        Self { outbox: Arc::new(Outbox::new(subscribers)), ..self }
    }

    /// The same database, with a quota for each owner.
    #[must_use]
    pub fn with_quota(self, quota: Quota) -> Self {
        Self { uploads: self.uploads.with_quota(&self.engine, quota), ..self }
    }

    /// Uploads.
    pub fn uploads(&self) -> Uploads<'_> {
        Uploads { engine: &self.engine, outbox: &self.outbox, state: &self.uploads }
    }

    /// Tracks.
    pub fn tracks(&self) -> Tracks<'_> {
        Tracks(&self.engine)
    }

    /// Attachments.
    pub fn attachments(&self) -> Attachments<'_> {
        Attachments(&self.engine)
    }

    /// The outbox of webhook deliveries.
    pub fn webhooks(&self) -> Webhooks<'_> {
        Webhooks { engine: &self.engine, outbox: &self.outbox }
    }

    /// The queue of inspections.
    pub fn inspections(&self) -> Inspections<'_> {
        Inspections { engine: &self.engine, queue: &self.uploads.inspections }
    }

    /// The locations of policies.
    pub fn locations(&self) -> Locations<'_> {
        Locations(&self.engine)
    }

    /// Idempotency keys.
    pub fn idempotency(&self) -> Idempotency<'_> {
        Idempotency(&self.engine)
    }

    /// API keys.
    pub fn api_keys(&self) -> ApiKeys<'_> {
        ApiKeys(&self.engine)
    }

    /// Upload tokens.
    pub fn upload_tokens(&self) -> UploadTokens<'_> {
        UploadTokens(&self.engine)
    }

    /// Multipart uploads that are to be aborted.
    pub fn multipart_aborts(&self) -> MultipartAborts<'_> {
        MultipartAborts(&self.engine)
    }

    /// Objects of uploads that are not at the upload's location, because the upload is or was
    /// moved.
    pub fn object_copies(&self) -> ObjectCopies<'_> {
        ObjectCopies(&self.engine)
    }

    /// The state of tus uploads: their pieces and the lease of their writer.
    pub fn tus(&self) -> TusUploads<'_> {
        TusUploads { engine: &self.engine, renewals: &self.lease_renewals }
    }

    /// The scheduled checks of uploads whose URL has expired.
    pub fn url_end_checks(&self) -> UrlEndChecks<'_> {
        UrlEndChecks(&self.engine)
    }

    /// Deletion of old rows.
    pub fn retention(&self) -> Retention<'_> {
        Retention(&self.engine)
    }

    /// Counts and ages for metrics and administrators.
    pub fn stats(&self) -> Stats<'_> {
        Stats { engine: &self.engine, cache: &self.counts }
    }

    /// Reconciliation runs and their locks.
    pub fn runs(&self) -> Runs<'_> {
        Runs(&self.engine)
    }

    /// The shards of reconciliation runs.
    pub fn shards(&self) -> Shards<'_> {
        Shards { engine: &self.engine, uploads: self.uploads(), finisher: &self.shard_finisher }
    }

    /// The findings of reconciliation runs.
    pub fn findings(&self) -> Findings<'_> {
        Findings(&self.engine)
    }

    /// Uploads whose object a run did not find, checked again at its end.
    pub fn missing_candidates(&self) -> MissingCandidates<'_> {
        MissingCandidates(&self.engine)
    }

    /// The damage of runs and of single requests: losses that no owner asked for.
    pub fn damage(&self) -> Damage<'_> {
        Damage(&self.engine)
    }

    /// The uploads of a policy, across owners.
    pub fn scan(&self) -> Scan<'_> {
        Scan(&self.engine)
    }

    /// The identity of this database, and the markers that it wrote.
    pub fn markers(&self) -> Markers<'_> {
        Markers(&self.engine)
    }

    /// The time of the database's clock, which all processes share.
    pub async fn time(&self) -> Result<Timestamp> {
        engine::clock::time(&self.engine.read, Duration::ZERO).await
    }

    /// The key that signs the cursors of this database's lists; created by the first caller.
    pub async fn cursor_key(&self) -> Result<CursorKey> {
        cursor_key::find_or_create(&self.engine).await
    }

    /// The number of statements that were executed, without BEGIN, COMMIT and ROLLBACK.
    pub fn statements(&self) -> u64 {
        self.engine.statements()
    }

    /// Fails if the database does not respond.
    pub async fn ping(&self) -> Result<()> {
        Ok(self.engine.read.ping().await?)
    }

    /// Records that a write failed because the disk was full.
    pub fn record_full_disk(&self) {
        self.space.record_full_disk();
    }

    /// Fails if an earlier write failed because the disk was full, and the disk is still full.
    pub async fn check_space(&self) -> Result<()> {
        self.space.check(&self.engine).await
    }

    /// Prepares for the end of the service: ends all watches and refuses new ones.
    pub fn end(&self) {
        self.uploads().end_watches();
        self.engine.begin_shutdown();
    }

    /// Whether this version may run on the database.
    pub async fn schema(&self) -> Result<Schema> {
        schema::check(&self.engine).await
    }

    /// Applies all pending migrations. Does nothing if a newer version has migrated the database.
    pub async fn migrate_up(&self) -> Result<()> {
        schema::up(&self.engine).await
    }

    /// Reverts the newest `steps` migrations.
    ///
    /// # Errors
    /// [`DbError::NewerSchema`] if a newer version has applied migrations of its own.
    pub async fn migrate_down(&self, steps: u32) -> Result<()> {
        schema::down(&self.engine, steps).await
    }

    /// The name of every migration, and whether it was applied. Migrations of newer versions come
    /// last.
    pub async fn migrations(&self) -> Result<Vec<(String, bool)>> {
        schema::migrations(&self.engine).await
    }

    /// The names of this version's migrations that were not applied yet.
    pub async fn pending_migrations(&self) -> Result<Vec<String>> {
        schema::pending(&self.engine).await
    }

    /// Closes all connections.
    pub async fn close(self) -> Result<()> {
        self.engine.close().await
    }
}
