//! Checks at intervals whether the buckets belong to this database, for processes whose runs do not
//! check it. Also measures the difference between the database's clock and this process's clock.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::runner::{Next, Running, Worker};
use crate::app::{App, AppError};

/// The interval.
const INTERVAL: Duration = Duration::from_secs(30);

/// Buckets that a run checked within this time are skipped. This time plus the interval must be
/// shorter than [`SETTLE_AFTER`](crate::domain::marker::SETTLE_AFTER), so that each process checks
/// its buckets at least once while a moved database waits.
const MAX_AGE: Duration = Duration::from_secs(45);

/// The checks of one process.
pub struct BucketCheck {
    app: Arc<App>,
}

impl BucketCheck {
    /// Starts the loop.
    pub fn start(app: &Arc<App>) -> Running {
        let running = Running::new();
        running.spawn(Arc::new(Self { app: Arc::clone(app) }));
        running
    }
}

impl Worker for BucketCheck {
    const NAME: &'static str = "bucket check";

    async fn tick(&self, stop: &CancellationToken) -> Result<Next, AppError> {
        let check = async {
            self.app.measure_clock_offset().await?;
            self.app.refresh_buckets(MAX_AGE).await
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(Next::Now),
            checked = check => checked?,
        }
        Ok(Next::After(INTERVAL))
    }
}
