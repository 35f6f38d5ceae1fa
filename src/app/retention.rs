//! Deletes rows whose retention is over: runs, findings that were not seen again, ended uploads
//! whose object is gone, ended webhook deliveries, upload tokens that ended, and expired
//! idempotency keys. Rows are deleted in bounded batches, each in its own transaction.

use chrono::TimeDelta;

use super::{App, Result};
use crate::db::DbError;
use crate::domain::Timestamp;

/// Rows in one batch: few enough that other writers do not wait long for its transaction.
const BATCH: u64 = 500;

/// Age at which a delivery to an unknown endpoint is given up. During a deployment, other processes
/// may have another configuration that contains the endpoint. A deployment takes less time than
/// this.
const UNKNOWN_ENDPOINT: TimeDelta = TimeDelta::hours(1);

/// How long an upload token is listed after it ended.
const ENDED_TOKEN: TimeDelta = TimeDelta::days(30);

/// How long rows are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Runs, counted from their start, and findings, counted from when a run saw them last.
    pub findings: TimeDelta,
    /// Ended uploads, counted from the deletion of their object; `None` keeps them for ever.
    pub ended: Option<TimeDelta>,
    /// Webhook deliveries, counted from when they were delivered or given up.
    pub deliveries: TimeDelta,
}

/// Numbers of deleted rows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Runs and findings.
    pub findings: u64,
    /// Ended uploads.
    pub ended: u64,
    /// Webhook deliveries.
    pub deliveries: u64,
    /// Webhook deliveries that were given up because their endpoint is not configured.
    pub given_up: u64,
    /// Idempotency keys.
    pub keys: u64,
    /// Upload tokens.
    pub tokens: u64,
    /// Rows with the progress of ended uploads in pieces.
    pub tus: u64,
}

impl App {
    /// Deletes all rows that are due. If there were any, updates the statistics of the query
    /// planner.
    pub async fn prune(&self, retention: Retention) -> Result<Pruned> {
        let (db, now) = (&self.db, self.now());
        let before = |age: TimeDelta| -> Timestamp { now - age };
        let old = before(retention.findings);
        let findings = all(|| db.retention().prune_findings(old, BATCH)).await?;
        let runs = all(|| db.retention().prune_runs(old, BATCH)).await?;
        let mut pruned = Pruned { findings: findings + runs, ..Pruned::default() };
        if let Some(ended) = retention.ended {
            pruned.ended = all(|| db.retention().prune_ended_uploads(before(ended), BATCH)).await?;
        }
        pruned.given_up =
            all(|| db.webhooks().give_up_unconfigured(before(UNKNOWN_ENDPOINT), now, BATCH))
                .await?;
        pruned.deliveries =
            all(|| db.webhooks().prune(before(retention.deliveries), BATCH)).await?;
        pruned.keys = all(|| db.idempotency().prune(BATCH)).await?;
        pruned.tokens = all(|| db.upload_tokens().prune(before(ENDED_TOKEN), BATCH)).await?;
        pruned.tus = all(|| db.tus().prune(BATCH)).await?;
        if pruned != Pruned::default() {
            db.retention().update_statistics().await?;
        }
        Ok(pruned)
    }
}

/// Calls `batch` until it deletes nothing. Returns the total number of deleted rows.
async fn all<F>(mut batch: impl FnMut() -> F) -> std::result::Result<u64, DbError>
where
    F: Future<Output = std::result::Result<u64, DbError>>,
{
    let mut rows = 0;
    loop {
        match batch().await? {
            0 => return Ok(rows),
            more => rows += more,
        }
    }
}
