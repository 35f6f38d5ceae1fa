//! Connections that are kept from one statement to the next.
//!
//! A pool of sqlx 0.9 tries each connection that is given back before anybody else has it
//! (`PoolConnection::return_to_pool`): a round trip to PostgreSQL, or another wake-up of `SQLite`'s
//! thread, which takes as long as a short query, and which the next one waits for where there is
//! one connection.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sea_orm::sea_query::{Value, Values};
use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::query::{QueryAs, QueryScalar};
use sea_orm::sqlx::{self, AssertSqlSafe, Postgres, Sqlite};
use sea_orm::{DatabaseConnection, DbBackend, DbErr, EntityTrait, RuntimeErr, Select};
use sea_query_sqlx::SqlxValues;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::connect::MAY_BE_GONE;
use super::sqlite_json;
use super::sqlite_json::{Packed, failed};
use crate::db::note_statement;

/// A connection that is taken out of its pool.
enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

/// A connection that is kept, and since when.
type Idle = (Connection, Instant);

/// Some of a pool's connections. Others are given back to it.
pub(in crate::db) struct Kept {
    pool: DatabaseConnection,
    most: usize,
    /// `None` once no more are kept.
    idle: Mutex<Option<Vec<Idle>>>,
    statements: Arc<AtomicU64>,
    runtime: Handle,
}

impl Kept {
    /// Keeps so many at most, which others can't have meanwhile.
    pub fn new(pool: DatabaseConnection, most: usize, statements: Arc<AtomicU64>) -> Self {
        let idle = Mutex::new(Some(Vec::new()));
        Self { pool, most, idle, statements, runtime: Handle::current() }
    }

    /// The database's kind.
    pub fn backend(&self) -> DbBackend {
        self.pool.get_database_backend()
    }

    /// What reads whole rows by [`Self::rows`].
    pub fn text<E: EntityTrait>(&self, query: Select<E>) -> String {
        sqlite_json::packing(&self.pool, query).sql
    }

    /// The rows of a query, whose parameters are ids.
    pub async fn rows<M: Packed + Unpin>(
        &self,
        sql: &str,
        ids: impl Iterator<Item = Uuid>,
    ) -> Result<Vec<M>, DbErr> {
        let mut connection = self.take().await.map_err(no_connection)?;
        let started = Instant::now();
        let rows = match &mut connection {
            Connection::Sqlite(connection) => {
                let query = ids.fold(sqlx::query_scalar(AssertSqlSafe(sql)), QueryScalar::bind);
                let packed: Result<String, _> = query.fetch_one(&mut **connection).await;
                packed.map(|packed| serde_json::from_str(&packed))
            }
            Connection::Postgres(connection) => {
                let query = ids.fold(sqlx::query_as(AssertSqlSafe(sql)), QueryAs::bind);
                query.fetch_all(&mut **connection).await.map(Ok)
            }
        };
        note_statement(&self.statements, rows.is_err(), started.elapsed());
        let rows = rows.map_err(failed)?;
        self.put(connection);
        rows.map_err(|error| DbErr::Json(error.to_string()))
    }

    /// Executes a statement that gives no rows.
    pub async fn execute(&self, sql: &str, values: Vec<Value>) -> Result<(), DbErr> {
        let mut connection = self.take().await.map_err(no_connection)?;
        let started = Instant::now();
        let (sql, values) = (AssertSqlSafe(sql), SqlxValues(Values(values)));
        let done = match &mut connection {
            Connection::Sqlite(connection) => {
                let query = sqlx::query_with::<Sqlite, _>(sql, values);
                query.execute(&mut **connection).await.map(drop)
            }
            Connection::Postgres(connection) => {
                let query = sqlx::query_with::<Postgres, _>(sql, values);
                query.execute(&mut **connection).await.map(drop)
            }
        };
        note_statement(&self.statements, done.is_err(), started.elapsed());
        done.map_err(failed)?;
        self.put(connection);
        Ok(())
    }

    /// The whole pool: all that is kept is given back to it.
    pub fn pool(&self) -> &DatabaseConnection {
        self.rest();
        &self.pool
    }

    /// Gives back what is kept.
    pub fn rest(&self) {
        drop(self.lock().as_mut().map(std::mem::take));
    }

    /// Keeps none any more, so that the pool can be closed.
    pub fn end(&self) {
        let _in = self.runtime.enter();
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self) -> Result<Connection, sqlx::Error> {
        let newest = self.lock().as_mut().and_then(Vec::pop);
        // What was idle for longer goes back to the pool, which tries it.
        let fresh = newest.filter(|(_, since)| since.elapsed() < MAY_BE_GONE);
        match (fresh, self.backend()) {
            (Some((connection, _)), _) => Ok(connection),
            (None, DbBackend::Sqlite) => {
                let pool = self.pool.get_sqlite_connection_pool();
                Ok(Connection::Sqlite(pool.acquire().await?))
            }
            (None, _) => {
                let pool = self.pool.get_postgres_connection_pool();
                Ok(Connection::Postgres(pool.acquire().await?))
            }
        }
    }

    /// One that failed, or whose caller was dropped, does not come here.
    fn put(&self, connection: Connection) {
        if let Some(idle) = self.lock().as_mut().filter(|idle| idle.len() < self.most) {
            idle.push((connection, Instant::now()));
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // The pool takes them back in a task, wherever this is.
        self.end();
    }
}

/// As sea-orm has it: whatever keeps a connection from being had, it is worth trying later.
fn no_connection(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::db::testing::on_both;
    use crate::db::{Db, DbError, DbSettings, begin};

    const NOTHING: &str = "DELETE FROM secrets WHERE name = 'none'";

    fn held(kept: &Kept) -> usize {
        kept.lock().as_ref().map_or(0, Vec::len)
    }

    #[tokio::test]
    async fn what_is_kept_is_used_again_and_given_back_to_who_wants_the_pool() {
        on_both(async |db: Db| {
            let statements = Arc::new(AtomicU64::new(0));
            let kept = Kept::new(db.write.clone(), 1, Arc::clone(&statements));
            for _ in 0..3 {
                kept.execute(NOTHING, Vec::new()).await.expect("executed");
                assert_eq!(held(&kept), 1);
            }
            assert_eq!(statements.load(Ordering::Relaxed), 3);
            // SQLite has no other connection that writes.
            let begun = timeout(Duration::from_secs(5), begin(kept.pool())).await;
            begun.expect("there is one").expect("begun").rollback().await.expect("ended");
            assert_eq!(held(&kept), 0);
            let wrong = kept.execute("DELETE FROM nowhere", Vec::new()).await;
            wrong.expect_err("no such table");
            assert_eq!(held(&kept), 0, "one that failed is the pool's");
            kept.end();
            kept.execute(NOTHING, Vec::new()).await.expect("executed");
            assert_eq!(held(&kept), 0);
        })
        .await;
    }

    #[test]
    fn who_gets_no_connection_may_try_later() {
        for error in [sqlx::Error::PoolTimedOut, sqlx::Error::Configuration("no such host".into())]
        {
            let error = DbError::from(no_connection(error));
            assert!(matches!(error, DbError::Unavailable(_)), "{error:?}");
        }
    }

    #[test]
    fn it_may_outlive_its_runtime() {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let kept = runtime.block_on(async {
            let url = format!("sqlite://{}", folder.path().join("kept.db").display()).into();
            let settings =
                DbSettings { url, max_connections: 2, busy_timeout: Duration::from_secs(20) };
            let db = Db::connect(&settings).await.expect("it opens");
            db.migrate_up().await.expect("migrated");
            let kept = Kept::new(db.write.clone(), 1, Arc::default());
            kept.execute(NOTHING, Vec::new()).await.expect("executed");
            kept
        });
        assert_eq!(held(&kept), 1);
        drop(runtime);
        drop(kept);
    }
}
