//! Reads and writes rows by blob, for the recovery at a start and for a rebuild.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, FromRow};

use super::objects::{Object, Row, put_in};
use super::{Index, WriteConditions, to_json};
use crate::clock::now_ms;
use crate::error::StoreError;

#[derive(FromRow)]
struct NamedRow {
    bucket: String,
    key: Vec<u8>,
    #[sqlx(flatten)]
    row: Row,
}

impl Index {
    /// Whether SQLite can open a file and its `quick_check` passes.
    pub(crate) async fn is_sound(path: &Path) -> bool {
        let check = async {
            let options = SqliteConnectOptions::new().filename(path);
            let mut connection = SqliteConnection::connect_with(&options).await?;
            let result = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)")
                .fetch_one(&mut connection)
                .await;
            connection.close().await?;
            result
        };
        check.await.is_ok_and(|result| result == "ok")
    }

    /// Returns the given blobs that belong to an object or a part.
    pub(crate) async fn named(&self, blobs: &[String]) -> Result<Vec<String>, StoreError> {
        let names = to_json(blobs, "blob")?;
        Ok(sqlx::query_scalar(
            "SELECT blob FROM object WHERE blob IN (SELECT value FROM json_each(?1)) \
             UNION ALL SELECT blob FROM part WHERE blob IN (SELECT value FROM json_each(?1))",
        )
        .bind(names)
        .fetch_all(&self.readers)
        .await?)
    }

    /// The number of blobs of all objects and parts.
    pub(crate) async fn count_blobs(&self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM object) + (SELECT count(*) FROM part)",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(super::from_db(count))
    }

    /// The objects that have these blobs, with their buckets and keys.
    pub(crate) async fn objects_in(
        &self,
        blobs: &[String],
    ) -> Result<Vec<(String, String, Object)>, StoreError> {
        let rows: Vec<NamedRow> = sqlx::query_as(
            "SELECT bucket.name AS bucket, key, size, etag, modified_ms, blob, sum, attributes, \
             part_sizes FROM object JOIN bucket ON bucket.id = bucket_id \
             WHERE blob IN (SELECT value FROM json_each(?))",
        )
        .bind(to_json(blobs, "blob")?)
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter()
            .map(|NamedRow { bucket, key, row }| {
                let key = String::from_utf8_lossy(&key).into_owned();
                Ok((bucket, key, row.try_into()?))
            })
            .collect()
    }

    /// The first `limit` blobs of objects after a name, in order.
    pub(crate) async fn object_blobs(
        &self,
        above: &str,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT blob FROM object WHERE blob > ? ORDER BY blob LIMIT ?")
            .bind(above)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.readers)
            .await?)
    }

    /// Deletes the objects that have these blobs. Returns their number.
    pub(crate) async fn drop_objects(&self, blobs: &[String]) -> Result<u64, StoreError> {
        let deleted =
            sqlx::query("DELETE FROM object WHERE blob IN (SELECT value FROM json_each(?))")
                .bind(to_json(blobs, "blob")?)
                .execute(&self.writer)
                .await?;
        Ok(deleted.rows_affected())
    }

    /// Writes objects in one transaction and creates their buckets. Returns the blobs that they
    /// replaced.
    pub(crate) async fn restore_objects(
        &self,
        objects: Vec<(String, String, Object)>,
    ) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        let mut replaced = Vec::new();
        for (bucket, key, object) in objects {
            sqlx::query(
                "INSERT INTO bucket (name, created_ms) VALUES (?, ?) ON CONFLICT DO NOTHING",
            )
            .bind(&bucket)
            .bind(now_ms())
            .execute(&mut *tx)
            .await?;
            let conditions = WriteConditions::default();
            replaced.extend(put_in(&mut tx, &bucket, &key, &object, &conditions).await?);
        }
        tx.commit().await?;
        Ok(replaced)
    }
}
