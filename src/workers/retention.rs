//! Throws away what is kept for long enough: runs, their findings, ended uploads whose object
//! is gone, webhook deliveries that ended, and idempotency keys of yesterday. In bounded
//! batches, each a transaction of its own.

use chrono::TimeDelta;

use crate::app::App;
use crate::db::DbError;
use crate::domain::Timestamp;

/// Rows in one batch: short enough that no writer waits long for it.
const BATCH: u64 = 500;

/// For how long a delivery to an unknown endpoint is left alone. A deployment takes less:
/// meanwhile other processes may know the endpoint already, or still.
const NOBODY: TimeDelta = TimeDelta::hours(1);

/// How long things are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Runs and their findings.
    pub findings: TimeDelta,
    /// Ended uploads, from when their object was gone; `None` is for ever.
    pub ended: Option<TimeDelta>,
    /// Webhook deliveries, from when they were taken or given up.
    pub deliveries: TimeDelta,
}

/// What was thrown away.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Runs and findings.
    pub findings: u64,
    /// Ended uploads.
    pub ended: u64,
    /// Webhook deliveries.
    pub deliveries: u64,
    /// Webhook deliveries that were given up, because nobody delivers to their endpoint.
    pub given_up: u64,
    /// Idempotency keys.
    pub keys: u64,
}

/// Prunes all that is due, and logs one line where there was something.
pub async fn prune(app: &App, retention: Retention) {
    match prune_all(app, retention).await {
        Ok(pruned) if pruned == Pruned::default() => {}
        Ok(Pruned { findings, ended, deliveries, given_up, keys }) => {
            tracing::info!(findings, ended, deliveries, given_up, keys, "old rows pruned");
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "old rows not pruned; the next time tries again");
        }
    }
}

/// Prunes all that is due.
pub async fn prune_all(app: &App, retention: Retention) -> Result<Pruned, DbError> {
    let (db, now) = (&app.db, app.now());
    let before = |age: TimeDelta| -> Timestamp { now - age };
    let mut pruned = Pruned {
        findings: all(|| db.prune_runs(before(retention.findings), BATCH)).await?,
        ..Pruned::default()
    };
    if let Some(ended) = retention.ended {
        pruned.ended = all(|| db.prune_ended(before(ended), BATCH)).await?;
    }
    pruned.given_up = all(|| db.end_deliveries_to_nobody(before(NOBODY), now, BATCH)).await?;
    pruned.deliveries = all(|| db.prune_deliveries(before(retention.deliveries), BATCH)).await?;
    pruned.keys = all(|| db.prune_keys(BATCH)).await?;
    Ok(pruned)
}

/// Batch after batch until one is empty; how many rows in all.
async fn all<F>(mut batch: impl FnMut() -> F) -> Result<u64, DbError>
where
    F: Future<Output = Result<u64, DbError>>,
{
    let mut rows = 0;
    loop {
        match batch().await? {
            0 => return Ok(rows),
            more => rows += more,
        }
    }
}
