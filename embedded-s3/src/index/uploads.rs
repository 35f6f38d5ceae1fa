//! Multipart uploads and their parts.

use sqlx::{FromRow, Sqlite, Transaction};

use super::objects::{Object, bucket_in, put_in};
use super::{Attributes, Index, WriteConditions, from_db, from_json, removals, to_db, to_json};
use crate::checksum::{Algorithm, Kind, Sum};
use crate::error::StoreError;
use crate::page::Bound;

/// An unfinished multipart upload.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub algorithm: Algorithm,
    pub kind: Kind,
    /// Whether the client chose the algorithm. If so, the parts must use the same algorithm.
    pub explicit: bool,
    pub attributes: Attributes,
}

/// The fields of an upload in a listing.
#[derive(Clone, Debug)]
pub(crate) struct ListedUpload {
    pub initiated_ms: i64,
    pub algorithm: Algorithm,
    pub kind: Kind,
}

/// A stored part.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub number: i32,
    pub size: u64,
    pub etag: String,
    pub modified_ms: i64,
    pub blob: String,
    pub sum: Sum,
}

/// Reads one range of the primary key.
pub(super) const LIST: &str = "SELECT key, id, initiated_ms, sum_plan FROM upload \
     WHERE bucket_id = ? AND (key, id) >= (?, ?) AND key < ? ORDER BY key, id LIMIT ?";

type Plan = (Algorithm, Kind, bool);

#[derive(FromRow)]
struct PartRow {
    number: i32,
    size: i64,
    etag: String,
    modified_ms: i64,
    blob: String,
    sum: String,
}

impl TryFrom<PartRow> for Part {
    type Error = StoreError;

    fn try_from(row: PartRow) -> Result<Self, StoreError> {
        let PartRow { number, size, etag, modified_ms, blob, sum } = row;
        let sum = from_json(&sum, "part.sum")?;
        Ok(Self { number, size: from_db(size), etag, modified_ms, blob, sum })
    }
}

impl Index {
    pub(crate) async fn create_upload(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        initiated_ms: i64,
        upload: &Upload,
    ) -> Result<(), StoreError> {
        let Upload { algorithm, kind, explicit, attributes } = upload;
        let mut tx = self.begin().await?;
        let bucket_id = bucket_in(&mut tx, bucket).await?;
        sqlx::query(
            "INSERT INTO upload (bucket_id, key, id, initiated_ms, sum_plan, attributes) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(bucket_id)
        .bind(key.as_bytes())
        .bind(id)
        .bind(initiated_ms)
        .bind(to_json::<Plan>(&(*algorithm, *kind, *explicit), "upload.sum_plan")?)
        .bind(to_json(attributes, "upload.attributes")?)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    pub(crate) async fn upload(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
    ) -> Result<Upload, StoreError> {
        let bucket_id = self.bucket(bucket).await?;
        let row: Option<(String, String)> = sqlx::query_as(
            "SELECT sum_plan, attributes FROM upload WHERE bucket_id = ? AND key = ? AND id = ?",
        )
        .bind(bucket_id)
        .bind(key.as_bytes())
        .bind(id)
        .fetch_optional(&self.readers)
        .await?;
        let (plan, attributes) = row.ok_or(StoreError::NoSuchUpload)?;
        let (algorithm, kind, explicit): Plan = from_json(&plan, "upload.sum_plan")?;
        let attributes = from_json(&attributes, "upload.attributes")?;
        Ok(Upload { algorithm, kind, explicit, attributes })
    }

    /// Writes a part if its upload still exists. Returns the blob that it replaced.
    pub(crate) async fn put_part(
        &self,
        upload_id: &str,
        part: &Part,
    ) -> Result<Option<String>, StoreError> {
        let mut tx = self.begin().await?;
        let alive: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM upload WHERE id = ?)")
            .bind(upload_id)
            .fetch_one(&mut *tx)
            .await?;
        if !alive {
            return Err(StoreError::NoSuchUpload);
        }
        let Part { number, size, etag, modified_ms, blob, sum } = part;
        let old: Option<String> =
            sqlx::query_scalar("SELECT blob FROM part WHERE upload_id = ? AND number = ?")
                .bind(upload_id)
                .bind(number)
                .fetch_optional(&mut *tx)
                .await?;
        removals::schedule(&mut tx, old.as_slice()).await?;
        sqlx::query(
            "INSERT OR REPLACE INTO part (upload_id, number, size, etag, modified_ms, blob, sum) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(upload_id)
        .bind(number)
        .bind(to_db(*size))
        .bind(etag)
        .bind(modified_ms)
        .bind(blob)
        .bind(to_json(sum, "part.sum")?)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(old)
    }

    /// The first `limit` parts after a number, in order.
    pub(crate) async fn parts(
        &self,
        upload_id: &str,
        above: i32,
        limit: i64,
    ) -> Result<Vec<Part>, StoreError> {
        let rows: Vec<PartRow> = sqlx::query_as(
            "SELECT number, size, etag, modified_ms, blob, sum FROM part \
             WHERE upload_id = ? AND number > ? ORDER BY number LIMIT ?",
        )
        .bind(upload_id)
        .bind(above)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(Part::try_from).collect()
    }

    /// Deletes an upload and returns the blobs of its parts.
    pub(crate) async fn abort_upload(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
    ) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        let bucket_id = bucket_in(&mut tx, bucket).await?;
        let blobs: Vec<String> = sqlx::query_scalar("SELECT blob FROM part WHERE upload_id = ?")
            .bind(id)
            .fetch_all(&mut *tx)
            .await?;
        delete_upload(&mut tx, bucket_id, key, id).await?;
        removals::schedule(&mut tx, &blobs).await?;
        tx.commit().await?;
        Ok(blobs)
    }

    /// Writes the object that consists of `parts` and deletes the upload. Returns the blobs that
    /// are no longer used.
    ///
    /// # Errors
    /// If the upload does not exist any more, its parts have changed, or a condition fails.
    pub(crate) async fn complete_upload(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        parts: &[Part],
        object: &Object,
        conditions: &WriteConditions,
    ) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        let now: Vec<(i32, String)> =
            sqlx::query_as("SELECT number, blob FROM part WHERE upload_id = ? ORDER BY number")
                .bind(id)
                .fetch_all(&mut *tx)
                .await?;
        let bucket_id = bucket_in(&mut tx, bucket).await?;
        delete_upload(&mut tx, bucket_id, key, id).await?;
        for part in parts {
            let found = now.binary_search_by_key(&part.number, |(number, _)| *number);
            if found.is_err() || found.is_ok_and(|at| now[at].1 != part.blob) {
                return Err(StoreError::InvalidPart);
            }
        }
        let old = put_in(&mut tx, bucket, key, object, conditions).await?;
        let mut blobs: Vec<String> = now.into_iter().map(|(_, blob)| blob).collect();
        removals::schedule(&mut tx, &blobs).await?;
        tx.commit().await?;
        blobs.extend(old);
        Ok(blobs)
    }

    pub(crate) async fn list_uploads(
        &self,
        bucket_id: i64,
        from: &Bound,
        until: &[u8],
        limit: i64,
    ) -> Result<Vec<(Bound, ListedUpload)>, StoreError> {
        let rows: Vec<(Vec<u8>, String, i64, String)> = sqlx::query_as(LIST)
            .bind(bucket_id)
            .bind(from.key.as_slice())
            .bind(from.id.as_str())
            .bind(until)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
        rows.into_iter()
            .map(|(key, id, initiated_ms, plan)| {
                let (algorithm, kind, _): Plan = from_json(&plan, "upload.sum_plan")?;
                Ok((Bound { key, id }, ListedUpload { initiated_ms, algorithm, kind }))
            })
            .collect()
    }
}

async fn delete_upload(
    tx: &mut Transaction<'_, Sqlite>,
    bucket_id: i64,
    key: &str,
    id: &str,
) -> Result<(), StoreError> {
    let done = sqlx::query("DELETE FROM upload WHERE bucket_id = ? AND key = ? AND id = ?")
        .bind(bucket_id)
        .bind(key.as_bytes())
        .bind(id)
        .execute(&mut **tx)
        .await?;
    if done.rows_affected() == 0 { Err(StoreError::NoSuchUpload) } else { Ok(()) }
}
