//! Checks whether the disk of the database is full. Reads work on a full disk, so the check needs a
//! write. It writes only after another write has failed because the disk was full.

use std::sync::atomic::{AtomicBool, Ordering};

use entity::secret;
use sea_orm::{ActiveValue::Set, EntityTrait as _};

use super::engine::error::Result;
use super::engine::pool::Engine;

/// The name of the row that the check inserts and deletes again in one transaction.
const PROBE: &str = "space-probe";

/// The size of the row in bytes: more than a page, so that the file must grow.
const PROBE_LEN: usize = 16 * 1024;

/// Whether a write has failed because the disk was full.
#[derive(Debug, Default)]
pub(super) struct Space(AtomicBool);

impl Space {
    pub(super) fn record_full_disk(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// If a write has failed because the disk was full, tries another one. Fails if the disk is
    /// still full.
    pub(super) async fn check(&self, engine: &Engine) -> Result<()> {
        if !self.0.load(Ordering::Relaxed) {
            return Ok(());
        }
        let txn = engine.begin().await?;
        // Random, because PostgreSQL compresses repeated bytes.
        let mut value = String::with_capacity(PROBE_LEN);
        while value.len() < PROBE_LEN {
            value.push(char::from(rand::random_range(b'!'..=b'~')));
        }
        let row = secret::ActiveModel { name: Set(PROBE.to_owned()), value: Set(value) };
        secret::Entity::insert(row).exec_without_returning(&txn).await?;
        secret::Entity::delete_by_id(PROBE).exec(&txn).await?;
        txn.commit().await?;
        self.0.store(false, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnectionTrait as _;

    use super::*;
    use crate::db::DbError;
    use crate::db::testing::on_both;

    #[tokio::test]
    async fn a_full_disk_and_its_recovery_are_noticed() {
        on_both(async |db| {
            db.check_space().await.unwrap();
            db.record_full_disk();
            db.check_space().await.unwrap();
            if db.engine.is_postgres() {
                return;
            }
            // The file has no free pages and cannot grow. Only this connection writes.
            let write = &db.engine.write;
            write.execute_unprepared("VACUUM").await.unwrap();
            write.execute_unprepared("PRAGMA max_page_count = 1").await.unwrap();
            db.check_space().await.unwrap();
            db.record_full_disk();
            for _ in 0..2 {
                let full = db.check_space().await.unwrap_err();
                assert!(matches!(full, DbError::Full(_)), "{full:?}");
            }
            write.execute_unprepared("PRAGMA max_page_count = 1000000").await.unwrap();
            db.check_space().await.unwrap();
            let left = secret::Entity::find_by_id(PROBE).one(write).await.unwrap();
            assert_eq!(left, None);
        })
        .await;
    }
}
