//! The connections of this process, and how its statements are counted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sea_orm::{
    ConnectionTrait as _, Database, DatabaseConnection, DatabaseTransaction, DbBackend,
    EntityTrait, Select, Statement,
};
use secrecy::ExposeSecret as _;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio_util::task::AbortOnDropHandle;

use super::connect::{
    DbSettings, READ_CACHE_KIB, WRITE_CACHE_KIB, postgres_options, sqlite_options,
};
use super::error::{DbError, Result};
use super::sqlite_json::{self, Row};
use super::{home, transaction};
use crate::telemetry::metrics as names;

/// Connections to the database.
///
/// `SQLite` allows one writer at a time: all writes share one connection and wait for it in a fair
/// queue. Reads use other connections. On PostgreSQL both are the same pool.
#[derive(Clone)]
pub(in crate::db) struct Engine {
    pub(in crate::db) read: DatabaseConnection,
    pub(in crate::db) write: DatabaseConnection,
    statements: Arc<AtomicU64>,
    shutting_down: Arc<AtomicBool>,
    runtime: Handle,
    /// The file of a `SQLite` database.
    file: Option<PathBuf>,
    home: Arc<OnceCell<Option<String>>>,
}

/// The connections of one pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolState {
    /// `all`, or `read` and `write`.
    pub name: &'static str,
    /// Connections in use.
    pub in_use: u64,
    /// Open connections that are not in use.
    pub idle: u64,
}

impl Engine {
    /// Opens the database; `SQLite` creates the file.
    pub async fn connect(settings: &DbSettings) -> Result<Self> {
        let url = settings.url.expose_secret();
        if let Some(remaining) = url.strip_prefix("sqlite:") {
            let path = remaining.trim_start_matches("//").split('?').next().unwrap_or_default();
            if path.is_empty() || path.contains(":memory:") {
                return Err(DbError::Url("must be sqlite://FILE, a file on disk".to_owned()));
            }
            if let Some(folder) = Path::new(path).parent() {
                std::fs::create_dir_all(folder).map_err(|e| {
                    DbError::Url(format!("can't create the folder {}: {e}", folder.display()))
                })?;
            }
            let options = sqlite_options(path, settings, (1, WRITE_CACHE_KIB));
            let write = Database::connect(options).await?;
            let options =
                sqlite_options(path, settings, (settings.max_connections, READ_CACHE_KIB));
            let read = Database::connect(options).await?;
            Ok(Self { file: Some(path.into()), ..Self::new(read, Some(write), Arc::default()) })
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let shutting_down = Arc::default();
            let options = postgres_options(url, settings, Arc::clone(&shutting_down));
            Ok(Self::new(Database::connect(options).await?, None, shutting_down))
        } else {
            Err(DbError::Url("must be sqlite://FILE or postgres://USER@HOST/NAME".to_owned()))
        }
    }

    /// `write` is `None` if reads and writes share a pool.
    fn new(
        mut read: DatabaseConnection,
        write: Option<DatabaseConnection>,
        shutting_down: Arc<AtomicBool>,
    ) -> Self {
        let statements = Arc::default();
        count_statements(&mut read, &statements);
        let write = match write {
            None => read.clone(),
            Some(mut write) => {
                count_statements(&mut write, &statements);
                write
            }
        };
        Self {
            read,
            write,
            statements,
            shutting_down,
            runtime: Handle::current(),
            file: None,
            home: Arc::default(),
        }
    }

    /// Where the database is stored, see [`home`]; `None` if that is unknown. It is read once.
    pub async fn home(&self) -> Option<&str> {
        let home = self.home.get_or_init(|| async {
            match &self.file {
                Some(file) => home::of_file(file),
                None => home::of_postgres(&self.read).await,
            }
        });
        home.await.as_deref()
    }

    /// The number of statements so far, without BEGIN, COMMIT and ROLLBACK.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// From now on, tests each connection before its use. A connection ends with the thread that
    /// opened it, and the threads of the server end during a shutdown.
    pub fn begin_shutdown(&self) {
        self.shutting_down.store(true, Ordering::Relaxed);
    }

    /// Closes all connections.
    pub async fn close(self) -> Result<()> {
        self.read.close().await?;
        Ok(self.write.close().await?)
    }

    /// Begins a write transaction.
    pub async fn begin(&self) -> Result<DatabaseTransaction> {
        transaction::begin(&self.write).await
    }

    /// Whether the database is PostgreSQL; else it is `SQLite`.
    pub fn is_postgres(&self) -> bool {
        self.write.get_database_backend() == DbBackend::Postgres
    }

    /// The largest number of connections in the pool that reads.
    pub fn max_connections(&self) -> u32 {
        if self.is_postgres() {
            self.read.get_postgres_connection_pool().options().get_max_connections()
        } else {
            self.read.get_sqlite_connection_pool().options().get_max_connections()
        }
    }

    /// Reads all rows of a page, on the runtime that opened the database. Decoding them on a server
    /// thread would delay the other HTTP connections of that thread. Dropping the future cancels
    /// the read.
    pub async fn read_page<E>(&self, query: Select<E>) -> Result<Vec<E::Model>>
    where
        E: EntityTrait,
        E::Model: Row + 'static,
    {
        let read = self.read.clone();
        let reading = self.runtime.spawn(async move { sqlite_json::all(&read, query).await });
        Ok(AbortOnDropHandle::new(reading).await.map_err(|_| DbError::Busy)??)
    }

    /// The query plan of a statement, line by line.
    pub async fn explain(&self, mut statement: Statement) -> Result<Vec<String>> {
        let (verb, column) = if self.is_postgres() {
            ("EXPLAIN", "QUERY PLAN")
        } else {
            ("EXPLAIN QUERY PLAN", "detail")
        };
        statement.sql = format!("{verb} {}", statement.sql);
        let rows = self.read.query_all_raw(statement).await?;
        Ok(rows.iter().map(|row| row.try_get("", column)).collect::<Result<_, _>>()?)
    }

    /// The connections of this process, by pool.
    pub fn pools(&self) -> Vec<PoolState> {
        let state = |name, size: u32, idle: usize| {
            let (size, idle) = (u64::from(size), idle as u64);
            PoolState { name, in_use: size.saturating_sub(idle), idle }
        };
        if self.is_postgres() {
            let pool = self.read.get_postgres_connection_pool();
            return vec![state("all", pool.size(), pool.num_idle())];
        }
        let pools = [("read", &self.read), ("write", &self.write)];
        let pools = pools.map(|(name, db)| (name, db.get_sqlite_connection_pool()));
        pools.map(|(name, pool)| state(name, pool.size(), pool.num_idle())).into()
    }
}

fn count_statements(connection: &mut DatabaseConnection, statements: &Arc<AtomicU64>) {
    let statements = Arc::clone(statements);
    connection.set_metric_callback(move |info| {
        statements.fetch_add(1, Ordering::Relaxed);
        let outcome = if info.failed { "failed" } else { "ok" };
        metrics::counter!(names::DB_STATEMENTS, "outcome" => outcome).increment(1);
        metrics::histogram!(names::DB_DURATION).record(info.elapsed);
    });
}
