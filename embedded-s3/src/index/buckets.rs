//! Buckets and their CORS configuration.

use serde::{Deserialize, Serialize};

use super::{Index, from_json, removals, to_json};
use crate::clock::now_ms;
use crate::error::StoreError;

/// One rule of a bucket's CORS configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CorsRule {
    pub id: Option<String>,
    pub allowed_origins: Vec<String>,
    pub allowed_methods: Vec<String>,
    pub allowed_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    pub max_age_seconds: Option<i32>,
}

impl Index {
    pub(crate) async fn create_bucket(&self, name: &str) -> Result<(), StoreError> {
        let done = sqlx::query(
            "INSERT INTO bucket (name, created_ms) VALUES (?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(name)
        .bind(now_ms())
        .execute(&self.writer)
        .await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::BucketExists) }
    }

    pub(crate) async fn bucket(&self, name: &str) -> Result<i64, StoreError> {
        sqlx::query_scalar("SELECT id FROM bucket WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.readers)
            .await?
            .ok_or(StoreError::NoSuchBucket)
    }

    /// All buckets with their creation times in milliseconds, in the order of their names.
    pub(crate) async fn buckets(&self) -> Result<Vec<(String, i64)>, StoreError> {
        Ok(sqlx::query_as("SELECT name, created_ms FROM bucket ORDER BY name")
            .fetch_all(&self.readers)
            .await?)
    }

    /// Deletes an empty bucket and its unfinished multipart uploads. Returns the blobs of their
    /// parts, which the caller removes.
    pub(crate) async fn delete_bucket(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        let id: i64 = sqlx::query_scalar("SELECT id FROM bucket WHERE name = ?")
            .bind(name)
            .fetch_optional(&mut *tx)
            .await?
            .ok_or(StoreError::NoSuchBucket)?;
        let used: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM object WHERE bucket_id = ?)")
                .bind(id)
                .fetch_one(&mut *tx)
                .await?;
        if used {
            return Err(StoreError::BucketNotEmpty);
        }
        let blobs: Vec<String> = sqlx::query_scalar(
            "SELECT blob FROM part WHERE upload_id IN (SELECT id FROM upload WHERE bucket_id = ?)",
        )
        .bind(id)
        .fetch_all(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM upload WHERE bucket_id = ?").bind(id).execute(&mut *tx).await?;
        sqlx::query("DELETE FROM bucket WHERE id = ?").bind(id).execute(&mut *tx).await?;
        removals::schedule(&mut tx, &blobs).await?;
        tx.commit().await?;
        Ok(blobs)
    }

    /// The CORS configurations of all buckets that have one.
    pub(crate) async fn all_cors(&self) -> Result<Vec<(String, Vec<CorsRule>)>, StoreError> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT name, cors FROM bucket WHERE cors IS NOT NULL")
                .fetch_all(&self.readers)
                .await?;
        rows.into_iter().map(|(name, cors)| Ok((name, from_json(&cors, "bucket.cors")?))).collect()
    }

    pub(crate) async fn set_cors(
        &self,
        name: &str,
        rules: Option<&[CorsRule]>,
    ) -> Result<(), StoreError> {
        let rules = rules.map(|rules| to_json(rules, "bucket.cors")).transpose()?;
        let done = sqlx::query("UPDATE bucket SET cors = ? WHERE name = ?")
            .bind(rules)
            .bind(name)
            .execute(&self.writer)
            .await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::NoSuchBucket) }
    }
}
