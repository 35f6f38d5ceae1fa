//! Throws away what is kept for long enough: runs, their findings, and ended uploads whose
//! object is gone, idempotency keys of yesterday. In bounded batches, each a transaction of its own.

use chrono::TimeDelta;

use crate::app::App;
use crate::db::DbError;

/// Rows in one batch: short enough that no writer waits long for it.
const BATCH: u64 = 500;

/// How long things are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Runs and their findings.
    pub findings: TimeDelta,
    /// Ended uploads, from when their object was gone; `None` is for ever.
    pub ended: Option<TimeDelta>,
}

/// What was thrown away.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Runs and findings.
    pub findings: u64,
    /// Ended uploads.
    pub ended: u64,
    /// Idempotency keys.
    pub keys: u64,
}

/// Prunes all that is due, and logs one line where there was something.
pub async fn prune(app: &App, retention: Retention) {
    match prune_all(app, retention).await {
        Ok(pruned) if pruned == Pruned::default() => {}
        Ok(Pruned { findings, ended, keys }) => {
            tracing::info!(findings, ended, keys, "old rows pruned");
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "old rows not pruned; the next time tries again");
        }
    }
}

/// Prunes all that is due.
pub async fn prune_all(app: &App, retention: Retention) -> Result<Pruned, DbError> {
    let now = app.now();
    let mut pruned = Pruned::default();
    loop {
        let batch = app.db.prune_runs(now - retention.findings, BATCH).await?;
        pruned.findings += batch;
        if batch == 0 {
            break;
        }
    }
    while let Some(ended) = retention.ended {
        let batch = app.db.prune_ended(now - ended, BATCH).await?;
        pruned.ended += batch;
        if batch == 0 {
            break;
        }
    }
    loop {
        let batch = app.db.prune_keys(BATCH).await?;
        pruned.keys += batch;
        if batch == 0 {
            return Ok(pruned);
        }
    }
}
