//! Delivers webhooks from the outbox.
//!
//! Each endpoint has its own loop and circuit breaker. An endpoint that is down is called with
//! increasing pauses, and does not delay the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::runner::{Next, Running, Worker};
use crate::app::webhooks::{Endpoint, Sent};
use crate::app::{App, AppError};
use crate::domain::backoff::Backoff;
use crate::net::OutboundClient;

/// The number of deliveries of an endpoint that are sent at the same time.
const BATCH: u64 = 8;

/// How often the outbox is polled, for retries and for deliveries of other processes.
const POLL: Duration = Duration::from_secs(1);

/// The number of consecutive failures after which an endpoint counts as down.
const DOWN_AFTER: u32 = 5;

/// Pauses for an endpoint that is down.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(5), longest: Duration::from_mins(5) };

/// Delivers the webhooks of one endpoint.
pub struct Dispatcher {
    app: Arc<App>,
    client: Arc<OutboundClient>,
    endpoint: Endpoint,
    circuit: Circuit,
}

impl Dispatcher {
    /// Creates a dispatcher for one endpoint, without starting it.
    pub fn new(app: Arc<App>, client: Arc<OutboundClient>, endpoint: Endpoint) -> Self {
        Self { app, client, endpoint, circuit: Circuit::default() }
    }

    /// Starts a loop for each endpoint.
    pub fn start(app: &Arc<App>, client: Arc<OutboundClient>, endpoints: Vec<Endpoint>) -> Running {
        let running = Running::new();
        for endpoint in endpoints {
            let dispatcher = Self::new(Arc::clone(app), Arc::clone(&client), endpoint);
            running.spawn(Arc::new(dispatcher));
        }
        running
    }

    /// Sends the deliveries that are due now. Returns the number of attempts.
    pub async fn deliver_due(&self) -> Result<usize, AppError> {
        // One delivery is enough to find out whether a receiver works again.
        let limit = if self.circuit.pause().is_some() { 1 } else { BATCH };
        let Sent { delivered, failed } =
            self.app.deliver_webhooks(&self.client, &self.endpoint, limit).await?;
        self.circuit.record(delivered, failed);
        Ok(delivered + failed)
    }
}

impl Worker for Dispatcher {
    const NAME: &'static str = "webhooks";

    async fn tick(&self, stop: &CancellationToken) -> Result<Next, AppError> {
        let sent = tokio::select! {
            // A delivery that is interrupted here is sent again after its lease.
            () = stop.cancelled() => return Ok(Next::Now),
            sent = self.deliver_due() => sent?,
        };
        if let Some(pause) = self.circuit.pause() {
            return Ok(Next::After(pause));
        }
        if sent == 0 {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = timeout(POLL, self.app.db.webhooks().wait_for_new()) => {}
            }
        }
        Ok(Next::Now)
    }
}

/// The circuit breaker of an endpoint: its number of consecutive failures.
#[derive(Debug, Default)]
struct Circuit(AtomicU32);

impl Circuit {
    fn record(&self, delivered: usize, failed: usize) {
        if delivered > 0 {
            self.0.store(0, Ordering::Relaxed);
        } else if failed > 0 {
            let failed = u32::try_from(failed).unwrap_or(u32::MAX);
            self.0.store(self.0.load(Ordering::Relaxed).saturating_add(failed), Ordering::Relaxed);
        }
    }

    /// How long to send nothing to the endpoint; `None` if it is not down.
    fn pause(&self) -> Option<Duration> {
        let over = self.0.load(Ordering::Relaxed).checked_sub(DOWN_AFTER)?;
        Some(BACKOFF.pause(over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_down_is_called_less_and_less_often() {
        let pause = |failures| Circuit(AtomicU32::new(failures)).pause().map(|p| p.as_secs());
        assert_eq!([0, 4, 5, 6, 99].map(pause), [None, None, Some(5), Some(10), Some(300)]);
    }

    #[test]
    fn one_delivery_ends_the_pause() {
        let circuit = Circuit(AtomicU32::new(7));
        circuit.record(0, 0);
        assert!(circuit.pause().is_some());
        circuit.record(1, 7);
        assert_eq!(circuit.pause(), None);
    }
}
