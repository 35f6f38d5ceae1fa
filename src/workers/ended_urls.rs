//! Observes uploads whose URL has ended and that no client confirms. What is due is in the
//! database, so that a restart loses nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::runner::{Next, Running, Worker};
use crate::app::ended_urls::BATCH;
use crate::app::{App, AppError};

/// How often it asks for what is due: one query if that is nothing.
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
            // Claims that are cut off here end with their lease.
            () = stop.cancelled() => return Ok(Next::Now),
            due = self.app.check_ended_urls() => due?,
        };
        Ok(if due < BATCH { Next::After(INTERVAL) } else { Next::Now })
    }
}
