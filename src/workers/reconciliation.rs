//! Reconciles all policies, when the scheduler or the start of the service triggers it.

use std::sync::Arc;

use crate::domain::Timestamp;
use crate::domain::run::{Mode, RunRequest, Trigger};
use crate::reconcile::{Reconciler, StartError};

/// Runs of one mode.
pub struct Reconciliation {
    reconciler: Arc<Reconciler>,
    mode: Mode,
}

impl Reconciliation {
    /// Runs of `mode` over all policies.
    pub fn new(reconciler: Arc<Reconciler>, mode: Mode) -> Self {
        Self { reconciler, mode }
    }

    /// Starts a run and waits until it ends. Returns at once if a run of this mode is already in
    /// progress, or if another process has started the run for the same scheduled time.
    /// `scheduled_for` is the scheduled time, for a scheduled run.
    pub async fn tick(&self, trigger: Trigger, scheduled_for: Option<Timestamp>) {
        let mode = self.mode;
        let request = RunRequest::of(mode, trigger);
        match self.reconciler.start_at(request, scheduled_for).await {
            // The run's row and the log contain its result.
            Ok(handle) => drop(handle.wait().await),
            Err(StartError::Held(run)) => {
                tracing::debug!(%run, mode = mode.name(), "a run was not started: \
                    another run of this mode is in progress");
            }
            Err(StartError::Taken) => {
                tracing::debug!(
                    mode = mode.name(),
                    "a run was not started: another process has started it"
                );
            }
            Err(error) => tracing::error!(
                mode = mode.name(),
                error = &error as &dyn std::error::Error,
                "reconciliation did not start"
            ),
        }
    }
}
