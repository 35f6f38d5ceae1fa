//! Deletes rows whose retention is over, when the scheduler triggers it.

use std::sync::Arc;

use crate::app::App;
use crate::app::retention::{Pruned, Retention};

/// The pruning of one process.
pub struct RetentionJob {
    app: Arc<App>,
    retention: Retention,
}

impl RetentionJob {
    /// Prunes by these retentions.
    pub fn new(app: Arc<App>, retention: Retention) -> Self {
        Self { app, retention }
    }

    /// Prunes all that is due, and logs one line if anything was.
    pub async fn tick(&self) {
        match self.app.prune(self.retention).await {
            Ok(pruned) if pruned == Pruned::default() => {}
            Ok(Pruned { findings, ended, deliveries, given_up, keys, tokens }) => {
                tracing::info!(
                    findings,
                    ended,
                    deliveries,
                    given_up,
                    keys,
                    tokens,
                    "old rows pruned"
                );
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "old rows not pruned; the next trigger tries again");
            }
        }
    }
}
