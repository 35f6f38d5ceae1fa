//! Blobs whose files are to be removed. The row is written in the transaction that replaces or
//! deletes the object. It is deleted after the file.

use sqlx::{Sqlite, Transaction};

use super::{Index, to_json};
use crate::error::StoreError;

/// Marks blobs for removal.
pub(super) async fn schedule(
    tx: &mut Transaction<'_, Sqlite>,
    blobs: &[String],
) -> Result<(), StoreError> {
    if !blobs.is_empty() {
        sqlx::query("INSERT OR IGNORE INTO removal (blob) SELECT value FROM json_each(?)")
            .bind(to_json(blobs, "removal.blob")?)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

impl Index {
    /// Blobs that are marked for removal, at most `limit`.
    pub(crate) async fn removals(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT blob FROM removal LIMIT ?")
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.readers)
            .await?)
    }

    /// Deletes the marks of blobs whose files are removed.
    pub(crate) async fn forget_removals(&self, blobs: &[String]) -> Result<(), StoreError> {
        if !blobs.is_empty() {
            sqlx::query("DELETE FROM removal WHERE blob IN (SELECT value FROM json_each(?))")
                .bind(to_json(blobs, "removal.blob")?)
                .execute(&self.writer)
                .await?;
        }
        Ok(())
    }
}
