//! How connections are opened, and what each of them is like.

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
    /// Connections at most; `SQLite` has one more, for writing.
    pub max_connections: u32,
    /// How long a statement waits for a lock, and a caller for a connection.
    pub busy_timeout: Duration,
}

/// How many rows `SQLite`'s thread reads before it waits for the reader: with few, the two
/// wake each other again and again.
const ROWS_AHEAD: usize = 1000;

/// A connection to PostgreSQL that was idle for so long is tried before it is used: the server
/// may have gone, or somebody between.
pub(in crate::db) const MAY_BE_GONE: Duration = Duration::from_secs(1);

/// What each connection of `SQLite` that reads keeps of the file, in KiB: of a large table 2 MiB
/// a connection, as is usual, hold no more that is asked for again than this, and the system
/// keeps the file anyway.
pub(in crate::db) const READ_CACHE: u32 = 256;

/// The same for the one that writes: what a transaction changes is kept until its end. As usual.
pub(in crate::db) const WRITE_CACHE: u32 = 2000;

/// What each connection to PostgreSQL is told. Our statements go by indexes, and their plans are kept:
/// one made while a table is empty would read all of it from then on, until the server next looks at
/// how it has grown, which it does once a minute (`autovacuum_naptime`). What needs a whole table
/// nevertheless reads it, and at the price that is set on it then the server would compile.
///
/// A page elsewhere costs about as much as the next one, as on any disk without a moving head. By
/// default it is four times as much, for which a server that knows nothing of a table yet reads and
/// sorts all that an owner has.
const BY_INDEX: &str = "SET enable_seqscan = off; SET jit = off; SET random_page_cost = 1.1";

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
                // Journals of statements that are undone alone: never worth a file.
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
    ending: Arc<AtomicBool>,
) -> ConnectOptions {
    let mut options = ConnectOptions::new(url.to_owned());
    options
        .max_connections(settings.max_connections)
        .acquire_timeout(settings.busy_timeout)
        .connect_timeout(settings.busy_timeout)
        // Else each statement asks first whether its connection lives, and takes twice as long.
        .test_before_acquire(false)
        .map_sqlx_postgres_pool_opts(move |pool| {
            let ending = Arc::clone(&ending);
            let pool = pool.after_connect(|connection, _| {
                Box::pin(async move { connection.execute(BY_INDEX).await.map(drop) })
            });
            pool.before_acquire(move |connection, state| {
                let doubtful = state.idle_for >= MAY_BE_GONE || ending.load(Ordering::Relaxed);
                Box::pin(async move {
                    if doubtful {
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
    async fn at_the_end_no_connection_is_used_whose_thread_has_ended() {
        let Ok(url) = std::env::var("TEST_POSTGRES_URL") else { return };
        let settings = DbSettings {
            url: url.into(),
            max_connections: 1,
            busy_timeout: Duration::from_secs(20),
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let db = Db::connect(&settings).await.expect("it opens");
                // A task gives the connection back.
                while db.read.get_postgres_connection_pool().num_idle() == 0 {
                    tokio::task::yield_now().await;
                }
                db
            })
        });
        let db = thread.join().expect("it ended");
        db.end();
        db.ping().await.expect("a connection of this thread");
    }
}
