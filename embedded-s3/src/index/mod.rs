//! The index: rows of buckets, objects, multipart uploads and their parts.
//!
//! There is one connection for writing, so a transaction excludes all other writes, and a few
//! for reading. Keys are stored as blobs, so that they sort by their bytes as in S3.

mod buckets;
mod objects;
mod recovery;
mod removals;
mod uploads;

use std::path::Path;
use std::time::Duration;

use s3s::dto::{ETag, ETagCondition, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

pub(super) use self::buckets::CorsRule;
pub(super) use self::objects::{Listed, Object};
pub(super) use self::uploads::{ListedUpload, Part, Upload};
use super::error::StoreError;

const READERS: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// `WITHOUT ROWID` keeps the rows of a bucket in key order on disk, so a page is one contiguous
/// range. The large columns are the last ones, because listings do not read them.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS bucket (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL,
    cors TEXT
);
CREATE TABLE IF NOT EXISTS object (
    bucket_id INTEGER NOT NULL REFERENCES bucket (id),
    key BLOB NOT NULL,
    size INTEGER NOT NULL,
    etag TEXT NOT NULL,
    modified_ms INTEGER NOT NULL,
    blob TEXT NOT NULL,
    sum TEXT,
    attributes TEXT NOT NULL,
    part_sizes TEXT,
    PRIMARY KEY (bucket_id, key)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS object_blob ON object (blob);
CREATE TABLE IF NOT EXISTS upload (
    bucket_id INTEGER NOT NULL REFERENCES bucket (id),
    key BLOB NOT NULL,
    id TEXT NOT NULL UNIQUE,
    initiated_ms INTEGER NOT NULL,
    sum_plan TEXT NOT NULL,
    attributes TEXT NOT NULL,
    PRIMARY KEY (bucket_id, key, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS part (
    upload_id TEXT NOT NULL REFERENCES upload (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    size INTEGER NOT NULL,
    etag TEXT NOT NULL,
    modified_ms INTEGER NOT NULL,
    blob TEXT NOT NULL UNIQUE,
    sum TEXT NOT NULL,
    PRIMARY KEY (upload_id, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS removal (
    blob TEXT PRIMARY KEY
) WITHOUT ROWID;
";

/// The index of a data folder.
#[derive(Clone, Debug)]
pub(super) struct Index {
    writer: SqlitePool,
    readers: SqlitePool,
}

/// The headers and metadata of an object, as the client sent them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Attributes {
    pub content_type: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub cache_control: Option<String>,
    pub expires: Option<Timestamp>,
    pub metadata: std::collections::BTreeMap<String, String>,
}

/// Conditions on the present object. They are checked in the transaction that writes.
#[derive(Clone, Debug, Default)]
pub(super) struct WriteConditions {
    pub if_match: Option<ETagCondition>,
    /// `If-None-Match: *`, the only value that S3 supports for writes.
    pub if_absent: bool,
}

impl WriteConditions {
    fn check(&self, current: Option<&str>) -> Result<(), StoreError> {
        if self.if_absent && current.is_some() {
            return Err(StoreError::PreconditionFailed);
        }
        match (&self.if_match, current) {
            (None, _) | (Some(ETagCondition::Any), Some(_)) => Ok(()),
            (Some(_), None) => Err(StoreError::NoSuchKey),
            (Some(ETagCondition::ETag(ETag::Strong(etag))), Some(current)) if etag == current => {
                Ok(())
            }
            (Some(ETagCondition::ETag(_)), Some(_)) => Err(StoreError::PreconditionFailed),
        }
    }
}

impl Index {
    pub(super) async fn open(path: &Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let writer = pool(1).connect_with(options.clone()).await?;
        sqlx::raw_sql(SCHEMA).execute(&writer).await?;
        let readers = pool(READERS).connect_with(options.pragma("query_only", "ON")).await?;
        Ok(Self { writer, readers })
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

fn to_json<T: Serialize + ?Sized>(value: &T, column: &'static str) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Corrupt { column, source })
}

fn from_json<T: DeserializeOwned>(text: &str, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Corrupt { column, source })
}

/// A size as SQLite's signed integer. No size is so large that it overflows.
fn to_db(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn from_db(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use sqlx::AssertSqlSafe;

    use super::*;

    async fn plan(index: &Index, statement: &str) -> String {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let steps: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(explain).fetch_all(&index.readers).await.unwrap();
        steps.into_iter().map(|step| step.3).collect::<Vec<_>>().join("; ")
    }

    #[tokio::test]
    async fn a_page_is_one_range_of_the_primary_key_and_needs_no_sorting() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.sqlite")).await.unwrap();
        assert_eq!(
            plan(&index, objects::LIST).await,
            "SEARCH object USING PRIMARY KEY (bucket_id=? AND key>? AND key<?)",
        );
        let uploads = plan(&index, uploads::LIST).await;
        assert!(uploads.starts_with("SEARCH upload USING PRIMARY KEY (bucket_id=?"), "{uploads}");
        assert!(!uploads.contains("TEMP B-TREE"), "{uploads}");
    }
}
