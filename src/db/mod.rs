//! The database: the only user of `entity` and `sea_orm`.
//!
//! One file an aggregate. Rows become domain values by `TryFrom`; a row that can't be is
//! [`DbError::Corrupt`], with table, column and id. Rows that belong to someone are read
//! and written by functions that take an [`Owner`](crate::domain::Owner); what the
//! reconciler reads across owners is in [`scan`].
//!
//! To add a table: a module in `entity`, a step in `migration`, a file here.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use migration::{Migrator, MigratorTrait as _};
use sea_orm::{
    Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, EntityTrait, Select,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use secrecy::ExposeSecret as _;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

pub mod api_keys;
mod cursor_key;
mod engine;
mod explain;
pub mod idempotency;
pub mod multipart_aborts;
pub mod reconcile;
pub mod retention;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod tracks;
pub mod uploads;
pub mod webhooks;

pub use engine::connect::DbSettings;
pub use engine::pagination::{Cursor, Page, Seal};

use engine::connect::{READ_CACHE, WRITE_CACHE, postgres_options, sqlite_options};
use engine::pinned::Kept;
use engine::sqlite_json;
use reconcile::finish_shards::{self, Finisher};
use stats::Stats;
use uploads::watch::Changes;
use uploads::{Creator, Quota, Reader};
use webhooks::Outbox;

use crate::domain::webhook::Subscriber;
use crate::telemetry::metrics as names;

/// Why a database call failed. A missing row is no error but `None`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DbError {
    /// Down, locked for too long, or out of connections. Worth trying later.
    #[error("the database is unavailable")]
    Unavailable(#[source] DbErr),
    /// More is waiting to be written than can be answered in time. Worth trying later.
    #[error("too much is waiting for the database")]
    Busy,
    /// A statement failed.
    #[error("a database statement failed")]
    Statement(#[source] DbErr),
    /// A row that this service never writes.
    #[error("impossible row: {table}.{column} of {id}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's primary key.
        id: String,
    },
    /// The database gave no readable time.
    #[error("the database's clock can't be read")]
    Clock,
    /// The owner has as many as it may have.
    #[error("at most {limit} {what}")]
    OverQuota {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
    /// The address can't be used.
    #[error("database.url: {0}")]
    Url(String),
}

impl From<DbErr> for DbError {
    fn from(error: DbErr) -> Self {
        use sea_orm::RuntimeErr::SqlxError;
        use sea_orm::sqlx::Error as Sqlx;
        let passing = |error: &Sqlx| match error {
            Sqlx::PoolTimedOut | Sqlx::PoolClosed | Sqlx::Io(_) | Sqlx::WorkerCrashed => true,
            // SQLITE_BUSY and SQLITE_LOCKED with their extended codes; PostgreSQL's
            // classes 08 (connection), 40 (rollback), 53 (resources) and 57 (shutdown).
            Sqlx::Database(inner) => inner.code().is_some_and(|code| {
                ["08", "40", "53", "57"]
                    .iter()
                    .any(|class| code.len() == 5 && code.starts_with(class))
                    || code
                        .parse::<u32>()
                        .is_ok_and(|n| code.len() < 5 && matches!(n & 0xff, 5 | 6))
            }),
            _ => false,
        };
        match &error {
            DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Self::Unavailable(error),
            DbErr::Exec(SqlxError(inner)) | DbErr::Query(SqlxError(inner)) if passing(inner) => {
                Self::Unavailable(error)
            }
            _ => Self::Statement(error),
        }
    }
}

/// A result of the database.
pub type Result<T, E = DbError> = std::result::Result<T, E>;

/// An open database.
///
/// `SQLite` lets one writer in at a time: all writes share one connection and queue for
/// it here, where waiting is fair, and reads go on beside it.
#[derive(Clone)]
pub struct Db {
    read: DatabaseConnection,
    write: DatabaseConnection,
    changes: Arc<Changes>,
    outbox: Arc<Outbox>,
    quota: Arc<Quota>,
    creator: Creator,
    reader: Reader,
    kept: Arc<Kept>,
    finisher: Finisher,
    stats: Arc<Stats>,
    statements: Arc<AtomicU64>,
    ending: Arc<AtomicBool>,
    runtime: Handle,
}

impl Db {
    /// Opens the database; `SQLite` creates the file.
    pub async fn connect(settings: &DbSettings) -> Result<Self> {
        let url = settings.url.expose_secret();
        if let Some(rest) = url.strip_prefix("sqlite:") {
            let path = rest.trim_start_matches("//").split('?').next().unwrap_or_default();
            if path.is_empty() || path.contains(":memory:") {
                return Err(DbError::Url("takes sqlite://FILE, a file on disk".to_owned()));
            }
            if let Some(folder) = Path::new(path).parent() {
                std::fs::create_dir_all(folder)
                    .map_err(|e| DbError::Url(format!("{}: {e}", folder.display())))?;
            }
            let write = Database::connect(sqlite_options(path, settings, (1, WRITE_CACHE))).await?;
            let options = sqlite_options(path, settings, (settings.max_connections, READ_CACHE));
            let read = Database::connect(options).await?;
            Ok(Self::new(read, Some(write), settings.max_connections, Arc::default()))
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let ending = Arc::default();
            let options = postgres_options(url, settings, Arc::clone(&ending));
            let read = Database::connect(options).await?;
            Ok(Self::new(read, None, settings.max_connections, ending))
        } else {
            Err(DbError::Url("takes sqlite://FILE or postgres://USER@HOST/NAME".to_owned()))
        }
    }

    /// `write` where writes have a connection of their own.
    fn new(
        mut read: DatabaseConnection,
        write: Option<DatabaseConnection>,
        max_connections: u32,
        ending: Arc<AtomicBool>,
    ) -> Self {
        let statements = Arc::default();
        count(&mut read, &statements);
        let write = match write {
            None => read.clone(),
            Some(mut write) => {
                count(&mut write, &statements);
                write
            }
        };
        let writer = Kept::new(write.clone(), 1, Arc::clone(&statements));
        let creator = uploads::creator(writer, Quota::default());
        // Half of them, for short queries: the other half is anybody's.
        let most = usize::try_from(max_connections / 2).unwrap_or(usize::MAX);
        let kept = Arc::new(Kept::new(read.clone(), most, Arc::clone(&statements)));
        let reader = uploads::reader(Arc::clone(&kept));
        let finisher = finish_shards::finisher(write.clone());
        let (changes, outbox, stats) = (Arc::default(), Arc::default(), Arc::default());
        let quota = Arc::default();
        Self {
            read,
            write,
            changes,
            outbox,
            quota,
            creator,
            reader,
            kept,
            finisher,
            stats,
            statements,
            ending,
            runtime: Handle::current(),
        }
    }

    /// The same database, whose changes these subscribers are told of.
    #[must_use]
    pub fn with_subscribers(self, subscribers: Vec<Subscriber>) -> Self {
        Self { outbox: Arc::new(Outbox::new(subscribers)), ..self }
    }

    /// The same database, in which each owner has so many uploads at most.
    #[must_use]
    pub fn with_quota(self, quota: Quota) -> Self {
        let writer = Kept::new(self.write.clone(), 1, Arc::clone(&self.statements));
        let creator = uploads::creator(writer, quota.clone());
        Self { creator, quota: Arc::new(quota), ..self }
    }

    /// Uploads.
    pub fn uploads(&self) -> uploads::Uploads<'_> {
        uploads::Uploads(self)
    }

    /// Tracks.
    pub fn tracks(&self) -> tracks::Tracks<'_> {
        tracks::Tracks(self)
    }

    /// The outbox of webhook deliveries.
    pub fn webhooks(&self) -> webhooks::Webhooks<'_> {
        webhooks::Webhooks(self)
    }

    /// Idempotency keys.
    pub fn idempotency(&self) -> idempotency::Idempotency<'_> {
        idempotency::Idempotency(self)
    }

    /// API keys.
    pub fn api_keys(&self) -> api_keys::ApiKeys<'_> {
        api_keys::ApiKeys(self)
    }

    /// Multipart uploads that are to be aborted.
    pub fn multipart_aborts(&self) -> multipart_aborts::MultipartAborts<'_> {
        multipart_aborts::MultipartAborts(self)
    }

    /// Deletion of old rows.
    pub fn retention(&self) -> retention::Retention<'_> {
        retention::Retention(self)
    }

    /// Counts and ages for metrics and administrators.
    pub fn stats(&self) -> stats::Statistics<'_> {
        stats::Statistics(self)
    }

    /// Reconciliation runs and their locks.
    pub fn runs(&self) -> reconcile::runs::Runs<'_> {
        reconcile::runs::Runs(self)
    }

    /// The shards of reconciliation runs.
    pub fn shards(&self) -> reconcile::shards::Shards<'_> {
        reconcile::shards::Shards(self)
    }

    /// What reconciliation runs found.
    pub fn findings(&self) -> reconcile::findings::Findings<'_> {
        reconcile::findings::Findings(self)
    }

    /// Uploads that a run checks again at its end.
    pub fn missing_candidates(&self) -> reconcile::missing_candidates::MissingCandidates<'_> {
        reconcile::missing_candidates::MissingCandidates(self)
    }

    /// The uploads of a policy, across owners.
    pub fn scan(&self) -> reconcile::scan::Scan<'_> {
        reconcile::scan::Scan(self)
    }

    /// The instance id and the buckets that carry its marker.
    pub fn marker(&self) -> reconcile::marker::Marker<'_> {
        reconcile::marker::Marker(self)
    }

    /// How many statements were made so far, without the begins and ends of transactions.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        Ok(self.read.ping().await?)
    }

    /// Prepares for the end of the service: sends all who wait away, and takes no more. From
    /// here on each connection is tried before it is used: those that a thread of the server
    /// opened end with it.
    pub fn end(&self) {
        self.uploads().end_watches();
        self.kept.end();
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Applies all migrations that are pending.
    pub async fn migrate_up(&self) -> Result<()> {
        Ok(Migrator::up(&self.write, None).await?)
    }

    /// Takes back the newest `steps` migrations.
    pub async fn migrate_down(&self, steps: u32) -> Result<()> {
        Ok(Migrator::down(&self.write, Some(steps)).await?)
    }

    /// Every migration's name, and whether it was applied.
    pub async fn migrations(&self) -> Result<Vec<(String, bool)>> {
        let pending = self.pending_migrations().await?;
        let all = Migrator::migrations();
        Ok(all
            .iter()
            .map(|step| (step.name().to_owned(), !pending.iter().any(|name| name == step.name())))
            .collect())
    }

    /// The names of the migrations that were not applied yet.
    pub async fn pending_migrations(&self) -> Result<Vec<String>> {
        let pending = Migrator::get_pending_migrations_read_only(&self.read).await?;
        Ok(pending.iter().map(|step| step.name().to_owned()).collect())
    }

    /// Closes all connections.
    pub async fn close(self) -> Result<()> {
        self.kept.end();
        self.read.close().await?;
        Ok(self.write.close().await?)
    }

    /// All rows of a query, read on the runtime that opened the database. Those of a page take
    /// a while to unpack: a thread that serves would keep connections waiting for it meanwhile
    /// that others could use. A caller that is dropped ends it.
    async fn rows_aside<E>(&self, query: Select<E>) -> Result<Vec<E::Model>>
    where
        E: EntityTrait,
        E::Model: sqlite_json::Packed + 'static,
    {
        let read = self.read.clone();
        let reading = self.runtime.spawn(async move { sqlite_json::all(&read, query).await });
        Ok(AbortOnDropHandle::new(reading).await.map_err(|_| DbError::Busy)??)
    }

    fn is_postgres(&self) -> bool {
        self.write.get_database_backend() == DbBackend::Postgres
    }

    async fn begin(&self) -> Result<DatabaseTransaction> {
        begin(&self.write).await
    }
}

fn count(connection: &mut DatabaseConnection, statements: &Arc<AtomicU64>) {
    let statements = Arc::clone(statements);
    connection.set_metric_callback(move |info| {
        note_statement(&statements, info.failed, info.elapsed);
    });
}

fn note_statement(statements: &AtomicU64, failed: bool, took: Duration) {
    statements.fetch_add(1, Ordering::Relaxed);
    let outcome = if failed { "failed" } else { "ok" };
    metrics::counter!(names::DB_STATEMENTS, "outcome" => outcome).increment(1);
    metrics::histogram!(names::DB_DURATION).record(took);
}

/// Begins a write. `SQLite` takes the write lock at once: a transaction that reads first
/// and writes later could not be given it any more.
async fn begin(write: &DatabaseConnection) -> Result<DatabaseTransaction> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    // In a task of its own: a caller that is dropped while BEGIN is on its way (a client
    // hung up, a run was cancelled) would give the connection back inside a transaction
    // that sqlx-postgres 0.9 does not know of, and later writes on it would be lost.
    let write = write.clone();
    let begun = tokio::spawn(async move { write.begin_with_options(options).await });
    let begun = begun.await.map_err(|error| DbErr::Custom(error.to_string()))?;
    Ok(begun?)
}
