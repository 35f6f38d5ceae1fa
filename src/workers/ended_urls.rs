//! Checks uploads whose URL has expired and that no client has confirmed. The scheduled checks are
//! in the database, so that a restart loses none.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::runner::{Next, Running, Worker};
use crate::app::ended_urls::BATCH;
use crate::app::{App, AppError};

/// The pause after a round that found fewer checks than a full batch. A round without due checks
/// costs one query.
const INTERVAL: Duration = Duration::from_secs(5);

/// The checks of one process.
pub struct EndedUrls {
    app: Arc<App>,
}

impl EndedUrls {
    /// Starts the loop.
    pub fn start(app: &Arc<App>) -> Running {
        let running = Running::new();
        running.spawn(Arc::new(Self { app: Arc::clone(app) }));
        running
    }
}

impl Worker for EndedUrls {
    const NAME: &'static str = "ended URLs";

    async fn tick(&self, stop: &CancellationToken) -> Result<Next, AppError> {
        let due = tokio::select! {
            // If the round is interrupted, its claimed checks are due again after their lease.
            () = stop.cancelled() => return Ok(Next::Now),
            due = self.app.check_ended_urls() => due?,
        };
        Ok(if due < BATCH { Next::After(INTERVAL) } else { Next::Now })
    }
}
