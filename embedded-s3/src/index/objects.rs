//! Objects: one row for each key.

use sqlx::{FromRow, Sqlite, Transaction};

use super::{Attributes, Index, WriteConditions, from_db, from_json, removals, to_db, to_json};
use crate::checksum::Sum;
use crate::error::StoreError;
use crate::page::Bound;

/// A stored object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub size: u64,
    pub etag: String,
    pub modified_ms: i64,
    pub blob: String,
    pub sum: Option<Sum>,
    pub attributes: Attributes,
    /// The sizes of the parts of a multipart object, in order.
    pub part_sizes: Option<Vec<u64>>,
}

/// The fields of an object in a listing.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub size: u64,
    pub etag: String,
    pub modified_ms: i64,
}

#[derive(FromRow)]
pub(super) struct Row {
    size: i64,
    etag: String,
    modified_ms: i64,
    blob: String,
    sum: Option<String>,
    attributes: String,
    part_sizes: Option<String>,
}

impl TryFrom<Row> for Object {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let Row { size, etag, modified_ms, blob, sum, attributes, part_sizes } = row;
        Ok(Self {
            size: from_db(size),
            etag,
            modified_ms,
            blob,
            sum: sum.map(|sum| from_json(&sum, "object.sum")).transpose()?,
            attributes: from_json(&attributes, "object.attributes")?,
            part_sizes: part_sizes.map(|s| from_json(&s, "object.part_sizes")).transpose()?,
        })
    }
}

/// Reads one range of the primary key, so its cost does not depend on the size of the bucket.
pub(super) const LIST: &str = "SELECT key, size, etag, modified_ms FROM object \
     WHERE bucket_id = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?";

impl Index {
    pub(crate) async fn object(&self, bucket: &str, key: &str) -> Result<Object, StoreError> {
        let bucket_id = self.bucket(bucket).await?;
        let row: Option<Row> = sqlx::query_as(
            "SELECT size, etag, modified_ms, blob, sum, attributes, part_sizes FROM object \
             WHERE bucket_id = ? AND key = ?",
        )
        .bind(bucket_id)
        .bind(key.as_bytes())
        .fetch_optional(&self.readers)
        .await?;
        row.ok_or(StoreError::NoSuchKey)?.try_into()
    }

    /// Writes an object if the conditions hold. Returns the blob that it replaced.
    pub(crate) async fn put_object(
        &self,
        bucket: &str,
        key: &str,
        object: &Object,
        conditions: &WriteConditions,
    ) -> Result<Option<String>, StoreError> {
        let mut tx = self.begin().await?;
        let old = put_in(&mut tx, bucket, key, object, conditions).await?;
        tx.commit().await?;
        Ok(old)
    }

    /// Deletes objects in one transaction and returns their blobs. A missing key is not an error,
    /// because S3's DELETE is idempotent, unless there is a condition.
    pub(crate) async fn delete_objects(
        &self,
        bucket: &str,
        keys: &[String],
        conditions: &WriteConditions,
    ) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        let bucket_id = bucket_in(&mut tx, bucket).await?;
        let mut blobs = Vec::new();
        for key in keys {
            let deleted: Option<(String, String)> = sqlx::query_as(
                "DELETE FROM object WHERE bucket_id = ? AND key = ? RETURNING etag, blob",
            )
            .bind(bucket_id)
            .bind(key.as_bytes())
            .fetch_optional(&mut *tx)
            .await?;
            conditions.check(deleted.as_ref().map(|(etag, _)| etag.as_str()))?;
            blobs.extend(deleted.map(|(_, blob)| blob));
        }
        removals::schedule(&mut tx, &blobs).await?;
        tx.commit().await?;
        Ok(blobs)
    }

    pub(crate) async fn list_objects(
        &self,
        bucket_id: i64,
        from: &Bound,
        until: &[u8],
        limit: i64,
    ) -> Result<Vec<(Bound, Listed)>, StoreError> {
        let rows: Vec<(Vec<u8>, i64, String, i64)> = sqlx::query_as(LIST)
            .bind(bucket_id)
            .bind(from.key.as_slice())
            .bind(until)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
        let listed = |(key, size, etag, modified_ms)| {
            (Bound::at(key), Listed { size: from_db(size), etag, modified_ms })
        };
        Ok(rows.into_iter().map(listed).collect())
    }
}

pub(super) async fn bucket_in(
    tx: &mut Transaction<'_, Sqlite>,
    bucket: &str,
) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT id FROM bucket WHERE name = ?")
        .bind(bucket)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(StoreError::NoSuchBucket)
}

pub(super) async fn put_in(
    tx: &mut Transaction<'_, Sqlite>,
    bucket: &str,
    key: &str,
    object: &Object,
    conditions: &WriteConditions,
) -> Result<Option<String>, StoreError> {
    let bucket_id = bucket_in(tx, bucket).await?;
    let old: Option<(String, String)> =
        sqlx::query_as("SELECT etag, blob FROM object WHERE bucket_id = ? AND key = ?")
            .bind(bucket_id)
            .bind(key.as_bytes())
            .fetch_optional(&mut **tx)
            .await?;
    conditions.check(old.as_ref().map(|(etag, _)| etag.as_str()))?;
    let Object { size, etag, modified_ms, blob, sum, attributes, part_sizes } = object;
    sqlx::query(
        "INSERT OR REPLACE INTO object \
         (bucket_id, key, size, etag, modified_ms, blob, sum, attributes, part_sizes) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(bucket_id)
    .bind(key.as_bytes())
    .bind(to_db(*size))
    .bind(etag)
    .bind(modified_ms)
    .bind(blob)
    .bind(sum.as_ref().map(|sum| to_json(sum, "object.sum")).transpose()?)
    .bind(to_json(attributes, "object.attributes")?)
    .bind(part_sizes.as_ref().map(|s| to_json(s, "object.part_sizes")).transpose()?)
    .execute(&mut **tx)
    .await?;
    let old = old.map(|(_, blob)| blob);
    removals::schedule(tx, old.as_slice()).await?;
    Ok(old)
}
