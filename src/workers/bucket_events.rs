//! Receives bucket events from a queue.
//!
//! A message is deleted after it was processed. If the store or the database fails, the message is
//! postponed, and the worker makes increasing pauses. Otherwise the queue would deliver its
//! messages again and again during an outage, and move all of them to its dead-letter queue. If the
//! queue has a redrive policy, a message that is not a bucket event is not deleted, so that it
//! reaches the dead-letter queue and an operator can inspect it. Otherwise it is deleted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::runner::{Next, Running, Worker};
use crate::app::{App, AppError};
use crate::domain::backoff::Backoff;
use crate::domain::event::{self, ObjectEvent};
use crate::storage::queue::{Message, Queue, QueueError, QueueState};
use crate::telemetry::metrics as names;

/// The number of messages of one batch that are processed at the same time.
const CONCURRENCY: usize = 4;

/// The largest message that SQS accepts, in bytes. No bucket sends a larger one.
const MAX_LEN: usize = 1 << 20;

/// How long a failed message is postponed. There is no need for longer pauses: after them, a
/// reconciliation run has already checked the object.
const POSTPONE: Backoff =
    Backoff { first: Duration::from_secs(5), longest: Duration::from_mins(15) };

/// How long the queue's state is cached.
const STATE_AGE: Duration = Duration::from_mins(1);

/// The outcome of a batch of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batch {
    /// Processed and deleted.
    pub handled: usize,
    /// Not bucket events.
    pub poison: usize,
    /// Not processed because of an error. The queue delivers them again later.
    pub postponed: usize,
}

/// Receives events from one queue.
pub struct BucketEvents {
    app: Arc<App>,
    queue: Arc<dyn Queue>,
    state: Mutex<Option<(Instant, Option<QueueState>)>>,
}

enum Outcome {
    Handled(Message),
    Poison(Message),
    Postponed(Message),
}

impl BucketEvents {
    /// Creates a worker for this queue, without starting it.
    pub fn new(app: Arc<App>, queue: Arc<dyn Queue>) -> Self {
        Self { app, queue, state: Mutex::default() }
    }

    /// Starts to receive, in `tasks` loops.
    pub fn start(self, tasks: usize) -> Running {
        let running = Running::new();
        let worker = Arc::new(self);
        for _ in 0..tasks {
            running.spawn(Arc::clone(&worker));
        }
        running
    }

    /// Receives one batch and processes it.
    pub async fn handle_batch(&self) -> Result<Batch, QueueError> {
        let messages = self.queue.receive().await?;
        Ok(self.handle(messages).await)
    }

    async fn handle(&self, messages: Vec<Message>) -> Batch {
        let handled = stream::iter(messages).map(|message| self.handle_one(message));
        // All end before the queue is called. A message that paused during a slow call could hold a
        // database connection.
        let outcomes: Vec<_> = handled.buffer_unordered(CONCURRENCY).collect().await;
        let mut batch = Batch::default();
        let mut done = Vec::new();
        for outcome in outcomes {
            let label = match outcome {
                Outcome::Handled(message) => {
                    batch.handled += 1;
                    done.push(message.receipt);
                    "handled"
                }
                Outcome::Poison(message) => {
                    batch.poison += 1;
                    let left = self.queue_state().await.is_none_or(|state| state.redrives);
                    // The body is not logged, because it may contain anything.
                    tracing::warn!(
                        message = message.id,
                        bytes = message.body.len(),
                        receives = message.receives,
                        deleted = !left,
                        "received a message that is not a bucket event"
                    );
                    if !left {
                        done.push(message.receipt);
                    }
                    "poison"
                }
                Outcome::Postponed(message) => {
                    batch.postponed += 1;
                    self.postpone(&message).await;
                    "postponed"
                }
            };
            metrics::counter!(names::SQS_MESSAGES, "outcome" => label).increment(1);
        }
        self.delete(&done).await;
        batch
    }

    async fn handle_one(&self, message: Message) -> Outcome {
        let Some(events) = read(&message.body) else { return Outcome::Poison(message) };
        match self.app.process_events(events).await {
            Ok(()) => Outcome::Handled(message),
            Err(error) => {
                tracing::warn!(
                    message = message.id,
                    receives = message.receives,
                    error = &error as &dyn std::error::Error,
                    "a bucket event was postponed"
                );
                Outcome::Postponed(message)
            }
        }
    }

    async fn delete(&self, receipts: &[String]) {
        if receipts.is_empty() {
            return;
        }
        match self.queue.delete(receipts).await {
            Ok(0) => {}
            Ok(failed) => {
                tracing::warn!(
                    failed,
                    "processed bucket events were not deleted; the queue delivers them again"
                );
            }
            Err(error) => report(
                &error,
                "processed bucket events were not deleted; the queue delivers them again",
            ),
        }
    }

    async fn postpone(&self, message: &Message) {
        let pause = POSTPONE.pause(message.receives.saturating_sub(1));
        if let Err(error) = self.queue.postpone(&message.receipt, pause).await {
            report(&error, "a bucket event was not postponed; the queue delivers it again later");
        }
    }

    /// Sets the gauges of the queue.
    async fn observe_queue(&self) {
        if let Some(state) = self.queue_state().await {
            let gauge = |state, count| {
                let gauge = metrics::gauge!(names::SQS_QUEUE, "state" => state);
                gauge.set(names::as_gauge(count));
            };
            gauge("waiting", state.waiting);
            gauge("in_flight", state.in_flight);
        }
    }

    /// The queue's state, at most [`STATE_AGE`] old; `None` if the queue does not return it.
    async fn queue_state(&self) -> Option<QueueState> {
        let cached = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, state)) = cached
            && at.elapsed() < STATE_AGE
        {
            return state;
        }
        let state = match self.queue.state().await {
            Ok(state) => Some(state),
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the state of the queue is unknown"
                );
                None
            }
        };
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), state));
        state
    }
}

impl Worker for BucketEvents {
    const NAME: &'static str = "bucket_events";

    async fn tick(&self, stop: &CancellationToken) -> Result<Next, AppError> {
        let received = tokio::select! {
            () = stop.cancelled() => return Ok(Next::Now),
            received = self.queue.receive() => received,
        };
        let next = match received {
            // A received batch is processed to its end, even if the worker must stop.
            Ok(messages) => {
                let batch = self.handle(messages).await;
                let stuck = batch.postponed > 0 && batch.handled == 0;
                if stuck { Next::BackOff } else { Next::Now }
            }
            Err(error) => {
                report(&error, "bucket events were not received");
                Next::BackOff
            }
        };
        self.observe_queue().await;
        Ok(next)
    }
}

/// The events in a message; `None` if it is not a bucket event.
fn read(body: &str) -> Option<Vec<ObjectEvent>> {
    if body.len() > MAX_LEN {
        return None;
    }
    event::parse(&serde_json::from_str(body).ok()?).ok()
}

fn report(error: &QueueError, what: &str) {
    metrics::counter!(names::SQS_ERRORS, "kind" => error.kind()).increment(1);
    let chain = error as &dyn std::error::Error;
    match error {
        QueueError::NoSuchQueue(_) | QueueError::AccessDenied(_) | QueueError::Refused { .. } => {
            tracing::error!(error = chain, "{what}: see [events.sqs] and the queue's policy");
        }
        QueueError::Unavailable(_) => tracing::warn!(error = chain, "{what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bucket_events_are_read() {
        let test_event = r#"{"Service": "Amazon S3", "Event": "s3:TestEvent"}"#;
        assert_eq!(read(test_event), Some(vec![]));
        let deep = "[".repeat(100_000);
        let huge = format!("{{\"Records\": [], \"x\": \"{}\"}}", "x".repeat(MAX_LEN));
        for poison in ["", "hello", "{}", "{\"Records\"", deep.as_str(), huge.as_str()] {
            assert!(read(poison).is_none());
        }
    }
}
