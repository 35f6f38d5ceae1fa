//! The settings with which connections to the database are opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::ConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{Connection as _, Executor as _};
use secrecy::SecretString;

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct DbSettings {
    /// `sqlite://path` or `postgres://...`.
    pub url: SecretString,
    /// The largest number of connections. `SQLite` has one more for writing.
    pub max_connections: u32,
    /// The time limit for a statement that waits for a lock, and for a caller that waits for a
    /// connection.
    pub busy_timeout: Duration,
}

/// The number of rows that the driver's `SQLite` thread may read ahead of the caller. With a small
/// number, the two threads wake each other after every few rows.
const ROWS_AHEAD: usize = 1000;

/// A connection to PostgreSQL that was idle for this long is tested before it is used: the server
/// or a proxy may have closed it.
const TEST_AFTER_IDLE: Duration = Duration::from_secs(1);

/// Page cache of each `SQLite` connection that reads, in KiB. A larger cache has few hits on a
/// large table, and the operating system caches the file anyway.
pub(in crate::db) const READ_CACHE_KIB: u32 = 256;

/// Page cache of the `SQLite` connection that writes, in KiB. It holds the pages that a transaction
/// has changed, until the commit.
pub(in crate::db) const WRITE_CACHE_KIB: u32 = 2000;

/// Settings of each connection to PostgreSQL.
///
/// - `random_page_cost`: on solid-state storage, a random page costs about as much as a sequential
///   one. With the default of 4, a server that has no statistics of a table does not use the index:
///   to return the first page of a list, it reads and sorts all rows of the owner.
/// - `jit`: compiling a statement takes longer than any statement of this service.
const PLANNER_SETTINGS: &str = "SET jit = off; SET random_page_cost = 1.1";

pub(in crate::db) fn sqlite_options(
    path: &str,
    settings: &DbSettings,
    (connections, cache_kib): (u32, u32),
) -> ConnectOptions {
    let mut options = ConnectOptions::new(format!("sqlite://{path}?mode=rwc"));
    let busy_timeout = settings.busy_timeout;
    options
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(settings.busy_timeout)
        .sqlx_logging(false)
        .test_before_acquire(false)
        .map_sqlx_sqlite_opts(move |sqlite| {
            sqlite
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                // Temporary files, such as statement journals, stay in memory.
                .pragma("temp_store", "memory")
                .pragma("cache_size", format!("-{cache_kib}"))
                .busy_timeout(busy_timeout)
                .row_buffer_size(ROWS_AHEAD)
        });
    options
}

pub(in crate::db) fn postgres_options(
    url: &str,
    settings: &DbSettings,
    shutting_down: Arc<AtomicBool>,
) -> ConnectOptions {
    let mut options = ConnectOptions::new(url.to_owned());
    options
        .max_connections(settings.max_connections)
        .acquire_timeout(settings.busy_timeout)
        .connect_timeout(settings.busy_timeout)
        // Testing before each use would double the time of a short statement.
        .test_before_acquire(false)
        .map_sqlx_postgres_pool_opts(move |pool| {
            let shutting_down = Arc::clone(&shutting_down);
            let pool = pool.after_connect(|connection, _| {
                Box::pin(async move { connection.execute(PLANNER_SETTINGS).await.map(drop) })
            });
            pool.before_acquire(move |connection, state| {
                let test =
                    state.idle_for >= TEST_AFTER_IDLE || shutting_down.load(Ordering::Relaxed);
                Box::pin(async move {
                    if test {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
        })
        .set_application_name("upload-coordinator")
        .sqlx_logging(false);
    options
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::DbSettings;
    use crate::db::Db;

    #[tokio::test]
    async fn during_shutdown_no_connection_of_an_ended_thread_is_used() {
        let Ok(url) = std::env::var("TEST_POSTGRES_URL") else { return };
        let settings = DbSettings {
            url: url.into(),
            max_connections: 1,
            busy_timeout: Duration::from_secs(20),
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let db = Db::connect(&settings).await.unwrap();
                // The connection is returned to the pool by a separate task.
                while db.engine.read.get_postgres_connection_pool().num_idle() == 0 {
                    tokio::task::yield_now().await;
                }
                db
            })
        });
        let db = thread.join().unwrap();
        db.end();
        db.ping().await.unwrap();
    }
}
