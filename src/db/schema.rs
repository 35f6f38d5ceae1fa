//! Decides whether this version of the service may run on a database, and runs the migrations.
//!
//! The table `schema` has the level of the database's schema, and the lowest level of a version
//! that can work with it (`migration::level`). It is read first. If the schema is newer than this
//! version, the table alone decides, because this version does not know the newer migrations. So
//! replicas of the previous version continue to run during and after a migration by a newer
//! version.

use std::collections::BTreeSet;
use std::time::Duration;

use migration::level::{self, FIRST_LEVEL, LEVEL, Level, NEEDED_LEVEL};
use migration::{Migrator, MigratorTrait as _};
use sea_orm::{
    ConnectionTrait as _, DatabaseTransaction, DbBackend, Statement, TransactionTrait as _,
};

use super::engine::error::{DbError, Result};
use super::engine::pool::Engine;
use super::retention::Retention;

/// The key of the advisory lock that a migrating process holds on PostgreSQL. Any constant number
/// that no other program uses.
const MIGRATION_LOCK: i64 = 0x7570_6c6f_6164_0001;

/// Pause between two attempts to take that lock.
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// Whether this version may run on the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schema {
    /// The version may run.
    Usable {
        /// The level of the database, if it is newer than this version's.
        newer: Option<i32>,
    },
    /// The version may run after these migrations are applied.
    Pending(Vec<String>),
    /// A newer version has changed the database, and this version can't work with it.
    TooNew {
        /// The lowest level of a version that can work with it.
        min_level: i32,
    },
}

impl Schema {
    /// Why this version may not run, as a sentence with the fix.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Usable { .. } => None,
            Self::Pending(names) => Some(format!(
                "{} migrations are pending: run `migrate up`, or `serve --migrate`",
                names.len()
            )),
            Self::TooNew { min_level } => Some(format!(
                "the database was migrated by a newer version and needs a version of schema level \
                 {min_level} or higher, this one has {LEVEL}: run the newer version"
            )),
        }
    }
}

/// Decides by the levels alone. `None` if the names of the migrations must be compared.
fn by_level(needed: i32, own: i32, found: Level) -> Option<Schema> {
    if found.min_level > own {
        Some(Schema::TooNew { min_level: found.min_level })
    } else if found.level > own {
        Some(Schema::Usable { newer: Some(found.level) })
    } else if (needed..own).contains(&found.level) {
        // The schema of the previous version, whose replicas may still be running.
        Some(Schema::Usable { newer: None })
    } else {
        None
    }
}

pub(super) async fn check(engine: &Engine) -> Result<Schema> {
    if let Some(found) = level::read(&engine.read).await?
        && let Some(decided) = by_level(NEEDED_LEVEL, LEVEL, found)
    {
        return Ok(decided);
    }
    let pending = pending(engine).await?;
    let usable = Schema::Usable { newer: None };
    Ok(if pending.is_empty() { usable } else { Schema::Pending(pending) })
}

/// Every migration of this version, and whether it was applied; then the migrations of other
/// versions.
pub(super) async fn migrations(engine: &Engine) -> Result<Vec<(String, bool)>> {
    let mut applied = level::applied(&engine.read).await?;
    let own = names().map(|name| {
        let found = applied.remove(&name);
        (name, found)
    });
    let mut all: Vec<_> = own.collect();
    all.extend(applied.into_iter().map(|name| (name, true)));
    Ok(all)
}

/// The migrations of this version that were not applied yet. Others are ignored.
pub(super) async fn pending(engine: &Engine) -> Result<Vec<String>> {
    let applied = level::applied(&engine.read).await?;
    Ok(names().filter(|name| !applied.contains(name)).collect())
}

fn names() -> impl Iterator<Item = String> {
    Migrator::migrations().into_iter().map(|step| step.name().to_owned())
}

/// Applies all pending migrations. Does nothing if a newer version has migrated the database.
pub(super) async fn up(engine: &Engine) -> Result<()> {
    let lock = lock(engine).await?;
    let found = level::read(&engine.write).await?;
    if found.is_some_and(|found| found.level > LEVEL || found.min_level > LEVEL) {
        tracing::info!("a newer version has migrated the database: nothing to do");
        return Ok(());
    }
    let pending = pending(engine).await?;
    if !pending.is_empty() {
        if found.is_some() {
            level::announce(&engine.write).await?;
        }
        Migrator::up(&engine.write, None).await?;
        // New indexes need statistics before they are used well.
        Retention(engine).update_statistics().await?;
    }
    level::record(&engine.write).await?;
    if let Some(lock) = lock {
        lock.commit().await?;
    }
    Ok(())
}

/// Reverts the newest `steps` migrations.
///
/// # Errors
/// [`DbError::NewerSchema`] if a newer version has applied migrations of its own.
pub(super) async fn down(engine: &Engine, steps: u32) -> Result<()> {
    let lock = lock(engine).await?;
    let found = level::read(&engine.write).await?;
    let own: BTreeSet<_> = names().collect();
    let others = level::applied(&engine.write).await?.into_iter().any(|name| !own.contains(&name));
    let level = found.map_or(FIRST_LEVEL, |found| found.level);
    if others || level > LEVEL {
        return Err(DbError::NewerSchema);
    }
    if found.is_some() {
        level::reset(&engine.write).await?;
    }
    Migrator::down(&engine.write, Some(steps)).await?;
    if let Some(lock) = lock {
        lock.commit().await?;
    }
    Ok(())
}

/// Waits until no other process migrates the database, because several replicas may start with
/// `serve --migrate` at the same time. The lock is released when the returned transaction ends.
///
/// The waiting process polls instead of blocking: a blocked statement would hold a snapshot, for
/// which `CREATE INDEX CONCURRENTLY` waits.
async fn lock(engine: &Engine) -> Result<Option<DatabaseTransaction>> {
    // Only one process uses a `SQLite` database. If the pool has a single connection, the lock
    // would leave none for the migration.
    if !engine.is_postgres() || engine.max_connections() < 2 {
        return Ok(None);
    }
    loop {
        let txn = engine.write.begin().await?;
        let sql = format!("SELECT pg_try_advisory_xact_lock({MIGRATION_LOCK}) AS locked");
        let row = txn.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
        if row.is_some_and(|row| row.try_get("", "locked").unwrap_or(false)) {
            return Ok(Some(txn));
        }
        txn.rollback().await?;
        tracing::info!("waiting for another process that migrates the database");
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_levels_decide_which_versions_run_side_by_side() {
        let found = |level, min_level| Level { level, min_level };
        let older = Some(Schema::Usable { newer: None });
        for (needed, own, found, expected) in [
            // A newer version has migrated the database, and it may allow this version or not.
            (2, 2, found(3, 2), Some(Schema::Usable { newer: Some(3) })),
            (2, 2, found(3, 3), Some(Schema::TooNew { min_level: 3 })),
            // The newer version has begun to migrate.
            (2, 2, found(2, 3), Some(Schema::TooNew { min_level: 3 })),
            // This version on the schema of the previous one.
            (2, 3, found(2, 2), older),
            (3, 3, found(2, 2), None),
            (2, 2, found(2, 2), None),
            (2, 2, found(1, 1), None),
        ] {
            assert_eq!(by_level(needed, own, found), expected, "{needed} {own} {found:?}");
        }
    }
}
