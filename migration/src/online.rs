//! Changes of tables that a running service uses, on PostgreSQL. `SQLite` is used by only one
//! process, which migrates before it serves.
//!
//! From version 0.2.0 on, replicas of the previous version serve requests while a newer version
//! migrates. So no migration may block their statements for long:
//! - an index is built by [`create_index`], in a separate migration whose `use_transaction` returns
//!   `Some(false)`;
//! - every other change of a table in use begins with [`bound_lock_wait`].

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, Statement};

/// Builds an index without blocking writes. `on` is what follows `ON` in SQL, such as
/// `uploads (policy, status)`. It may be called again after it failed.
///
/// # Errors
/// If the database fails, or the migration runs in a transaction.
pub async fn create_index(db: &impl ConnectionTrait, name: &str, on: &str) -> Result<(), DbErr> {
    if db.get_database_backend() != DbBackend::Postgres {
        let sql = format!("CREATE INDEX IF NOT EXISTS {name} ON {on}");
        return db.execute_unprepared(&sql).await.map(drop);
    }
    match is_valid(db, name).await? {
        Some(true) => return Ok(()),
        // An index whose build failed is still updated by writes, but is never read.
        Some(false) => drop_index(db, name).await?,
        None => {}
    }
    let sql = format!("CREATE INDEX CONCURRENTLY {name} ON {on}");
    db.execute_unprepared(&sql).await.map(drop)
}

/// Drops an index without blocking reads or writes. Succeeds if it does not exist.
///
/// # Errors
/// The errors of [`create_index`].
pub async fn drop_index(db: &impl ConnectionTrait, name: &str) -> Result<(), DbErr> {
    let postgres = db.get_database_backend() == DbBackend::Postgres;
    let how = if postgres { "CONCURRENTLY " } else { "" };
    db.execute_unprepared(&format!("DROP INDEX {how}IF EXISTS {name}")).await.map(drop)
}

/// Limits how long the statements of this transaction wait for a lock. While a statement waits for
/// an exclusive lock, all other statements on the table wait behind it. After the limit, the
/// migration fails without a change and can be repeated.
///
/// # Errors
/// If the database fails.
pub async fn bound_lock_wait(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    db.execute_unprepared("SET LOCAL lock_timeout = '3s'").await.map(drop)
}

/// Whether an index can be used; `None` if it does not exist.
async fn is_valid(db: &impl ConnectionTrait, name: &str) -> Result<Option<bool>, DbErr> {
    let sql = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)";
    let query = Statement::from_sql_and_values(DbBackend::Postgres, sql, [name.into()]);
    let row = db.query_one_raw(query).await?;
    row.map(|row| row.try_get("", "indisvalid")).transpose()
}
