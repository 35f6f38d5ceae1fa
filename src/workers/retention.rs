//! Deletes rows whose retention is over, when the scheduler triggers it.

use std::sync::Arc;

use crate::app::App;
use crate::app::retention::{Pruned, Retention};

/// Deletes old rows for one process.
pub struct RetentionJob {
    app: Arc<App>,
    retention: Retention,
}

impl RetentionJob {
    /// Creates the job with these retention times.
    pub fn new(app: Arc<App>, retention: Retention) -> Self {
        Self { app, retention }
    }

    /// Deletes all rows that are due. Logs one line if there were any.
    pub async fn tick(&self) {
        match self.app.prune(self.retention).await {
            Ok(pruned) if pruned == Pruned::default() => {}
            Ok(Pruned { findings, ended, deliveries, given_up, keys, tokens, tus }) => {
                tracing::info!(
                    findings,
                    ended,
                    deliveries,
                    given_up,
                    keys,
                    tokens,
                    tus,
                    "old rows were deleted"
                );
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    "old rows were not deleted; the next scheduled run tries again"
                );
            }
        }
    }
}
