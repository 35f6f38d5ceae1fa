//! Checks at intervals that each store accepts this service's credentials, so that refused
//! credentials are noticed even if nothing requests `readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::runner::{Next, Running, Worker};
use crate::app::{App, AppError};

/// The interval. Refused credentials are noticed after three checks.
const INTERVAL: Duration = Duration::from_secs(10);

/// Checks the stores.
pub struct StoreChecks {
    app: Arc<App>,
    /// Whether the first tick was done. The first tick checks nothing, because the service has just
    /// checked the stores during its start.
    started: AtomicBool,
}

impl StoreChecks {
    /// Starts the loop.
    pub fn start(app: &Arc<App>) -> Running {
        let running = Running::new();
        running.spawn(Arc::new(Self { app: Arc::clone(app), started: AtomicBool::new(false) }));
        running
    }
}

impl Worker for StoreChecks {
    const NAME: &'static str = "store checks";

    async fn tick(&self, stop: &CancellationToken) -> Result<Next, AppError> {
        if self.started.swap(true, Ordering::Relaxed) {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.app.check_stores() => {}
            }
        }
        Ok(Next::After(INTERVAL))
    }
}
