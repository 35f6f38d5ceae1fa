//! Inspects uploads, with a queue in the database.
//!
//! Each inspector has its own loop, with the configured number of concurrent inspections. A new row
//! wakes the loop at once. While an inspector is down, it receives one file at a time, with
//! increasing pauses, so that the attempts of the queued inspections are not used up.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::runner::{Next, Running, Worker};
use crate::app::inspections::{Inspector, Outcome};
use crate::app::{App, AppError};
use crate::domain::backoff::Backoff;
use crate::domain::inspection::{Fallback, QueuedInspection, RETRY};

/// How often the queue is polled, for retries and for rows of other processes.
const POLL: Duration = Duration::from_secs(1);

/// The number of consecutive failures after which an inspector counts as down.
const DOWN_AFTER: u32 = 5;

/// The pauses for an inspector that is down.
const BACKOFF: Backoff = RETRY;

/// The inspections of one inspector.
pub struct InspectionWorker {
    app: Arc<App>,
    inspector: Arc<Inspector>,
}

/// Whether an inspector works, by its consecutive failures.
#[derive(Debug, Default)]
struct Health {
    failures: u32,
    /// If the inspector is down, when it may receive a file again.
    resume_at: Option<Instant>,
}

impl Health {
    fn record(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Failed => {
                self.failures = self.failures.saturating_add(1);
                let over = self.failures.checked_sub(DOWN_AFTER);
                self.resume_at = over.map(|over| now + BACKOFF.pause(over));
            }
            Outcome::Outdated => {}
            Outcome::Accepted | Outcome::Rejected | Outcome::Deferred | Outcome::Unscannable => {
                *self = Self::default();
            }
        }
    }

    /// The number of additional files that the inspector may receive now.
    fn limit(&self, free: usize, concurrency: usize, now: Instant) -> usize {
        match self.resume_at {
            None => free,
            Some(at) if at > now => 0,
            // One file is enough to test whether it works again.
            Some(_) => usize::from(free == concurrency),
        }
    }
}

impl InspectionWorker {
    /// Starts a loop for each inspector.
    pub fn start(app: &Arc<App>) -> Running {
        let running = Running::new();
        for inspector in app.inspectors.values() {
            let (app, inspector) = (Arc::clone(app), Arc::clone(inspector));
            running.spawn(Arc::new(Self { app, inspector }));
        }
        running
    }

    /// Claims the inspections that may start now.
    async fn claim(&self, health: &Health, free: usize) -> Result<Vec<QueuedInspection>, AppError> {
        let limit = health.limit(free, self.inspector.concurrency, Instant::now());
        if limit > 0 {
            return self.app.claim_inspections(&self.inspector, limit, false).await;
        }
        // Overdue inspections are claimed even if the inspector is down, because `on_error` decides
        // them without the inspector.
        if free > 0 && health.resume_at.is_some() && self.inspector.on_error != Fallback::Hold {
            return self.app.claim_inspections(&self.inspector, free, true).await;
        }
        Ok(Vec::new())
    }
}

/// Makes one attempt. It runs in a separate task: it may hold a database connection, so it must
/// make progress while the loop waits for a connection.
async fn inspect(
    app: Arc<App>,
    inspector: Arc<Inspector>,
    claimed: QueuedInspection,
    stop: CancellationToken,
) -> Outcome {
    let outcome = tokio::select! {
        () = stop.cancelled() => {
            // The attempt was interrupted. After the release, another process can claim the
            // inspection at once, without waiting for the end of the lease.
            if let Err(error) = app.release_inspection(&claimed).await {
                warn(&claimed, &error);
            }
            return Outcome::Outdated;
        }
        outcome = app.inspect(&inspector, &claimed) => outcome,
    };
    outcome.unwrap_or_else(|error| {
        warn(&claimed, &error);
        Outcome::Failed
    })
}

fn warn(claimed: &QueuedInspection, error: &AppError) {
    tracing::warn!(upload = %claimed.upload, inspector = %claimed.inspector,
        error = error as &dyn std::error::Error,
        "the result of an inspection was not recorded; it is repeated after its lease");
}

impl Worker for InspectionWorker {
    const NAME: &'static str = "inspections";

    async fn tick(&self, stop: &CancellationToken) -> Result<Next, AppError> {
        let mut running = JoinSet::new();
        let mut health = Health::default();
        loop {
            // Waits for new rows from before the claim on, so that no notification is missed.
            let queue = self.app.db.inspections();
            let new_rows = queue.wait_for_new();
            tokio::pin!(new_rows);
            let already = futures_util::poll!(&mut new_rows).is_ready();
            let free = self.inspector.concurrency.saturating_sub(running.len());
            let claimed = if stop.is_cancelled() {
                Vec::new()
            } else {
                match self.claim(&health, free).await {
                    Ok(claimed) => claimed,
                    Err(error) if running.is_empty() => return Err(error),
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error,
                            inspector = %self.inspector.name, "the queue of inspections could not be read");
                        Vec::new()
                    }
                }
            };
            for claimed in claimed {
                let (app, inspector) = (Arc::clone(&self.app), Arc::clone(&self.inspector));
                running.spawn(inspect(app, inspector, claimed, stop.clone()));
            }
            if stop.is_cancelled() {
                while running.join_next().await.is_some() {}
                return Ok(Next::Now);
            }
            if already {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                Some(outcome) = running.join_next() => {
                    // A task that panicked counts as failed.
                    health.record(outcome.unwrap_or(Outcome::Failed), Instant::now());
                }
                () = &mut new_rows => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inspector_that_is_down_receives_one_file_at_a_time_with_increasing_pauses() {
        let now = Instant::now();
        let after = |failures: u32| {
            let mut health = Health::default();
            (0..failures).for_each(|_| health.record(Outcome::Failed, now));
            health
        };
        let pause = |failures| after(failures).resume_at.map(|at| (at - now).as_secs());
        assert_eq!([0, 4, 5, 6, 99].map(pause), [None, None, Some(1), Some(2), Some(30)]);
        let down = after(5);
        assert_eq!(down.limit(4, 4, now), 0);
        let later = now + Duration::from_secs(1);
        assert_eq!([down.limit(4, 4, later), down.limit(3, 4, later)], [1, 0]);
        let mut back = after(9);
        back.record(Outcome::Rejected, later);
        assert_eq!(back.limit(4, 4, later), 4);
    }
}
