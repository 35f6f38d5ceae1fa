//! Takes events of buckets from a queue.
//!
//! A message is deleted once it is handled. One that meets a store or a database in trouble
//! comes again later, and meanwhile the poller itself slows down: a queue that moves
//! messages to a dead-letter queue after a few receives would else empty itself into that
//! during an outage. One that is no event of a bucket never will be: it is left to the
//! queue's redrive policy where it has one, so that somebody can look at it, else deleted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{App, AppError};
use crate::domain::event::{self, ObjectEvent};
use crate::storage::queue::{Message, Queue, QueueError, QueueState};
use crate::telemetry::metrics as names;

/// Messages at once, of those that one call hands out.
const CONCURRENCY: usize = 4;

/// The largest message that SQS takes; more is nothing that a bucket sends.
const MAX_LEN: usize = 1 << 20;

/// The pause after a first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause: what is mended is found within it.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// After how long a message comes again that met trouble for the first time.
const FIRST_POSTPONE: Duration = Duration::from_secs(5);

/// The longest that one is put off: by then the reconciler has seen to its object anyway.
const LONGEST_POSTPONE: Duration = Duration::from_mins(15);

/// For how long it is believed how the queue stands.
const STATE_AGE: Duration = Duration::from_mins(1);

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batch {
    /// Handled, and to be deleted.
    pub handled: usize,
    /// No events of a bucket.
    pub poison: usize,
    /// To come again.
    pub postponed: usize,
}

/// Takes events from one queue.
pub struct Poller {
    app: Arc<App>,
    queue: Arc<dyn Queue>,
    state: Mutex<Option<(Instant, Option<QueueState>)>>,
}

/// The running tasks.
pub struct Pollers {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Pollers {
    /// None at all.
    pub fn none() -> Self {
        Self { tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Takes nothing more, and lets what was taken be finished, for so long.
    pub async fn stop(self, patience: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!("events under way are given up; the queue hands them out again");
        }
    }
}

enum Outcome {
    Handled(Message),
    Poison(Message),
    Later(Message),
}

impl Poller {
    /// A poller of this queue.
    pub fn new(app: Arc<App>, queue: Arc<dyn Queue>) -> Self {
        Self { app, queue, state: Mutex::default() }
    }

    /// Begins to poll, in so many tasks.
    pub fn start(self, tasks: usize) -> Pollers {
        let pollers = Pollers::none();
        let poller = Arc::new(self);
        for _ in 0..tasks {
            let (poller, stop) = (Arc::clone(&poller), pollers.stop.clone());
            pollers.tasks.spawn(async move { poller.serve(&stop).await });
        }
        pollers
    }

    async fn serve(&self, stop: &CancellationToken) {
        let mut trouble = Trouble::default();
        while !stop.is_cancelled() {
            let received = tokio::select! {
                () = stop.cancelled() => return,
                received = self.queue.receive() => received,
            };
            match received {
                Ok(messages) => {
                    // From here on the batch is finished, whoever wants to stop.
                    let batch = self.handle(messages).await;
                    trouble.note(batch.postponed > 0 && batch.handled == 0);
                }
                Err(error) => {
                    report(&error, "no events taken");
                    trouble.note(true);
                }
            }
            self.look_at_queue().await;
            if let Some(pause) = trouble.pause(rand::random()) {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
            }
        }
    }

    /// Takes one batch and handles it; what [`Self::start`] does again and again.
    pub async fn take_batch(&self) -> Result<Batch, QueueError> {
        let messages = self.queue.receive().await?;
        Ok(self.handle(messages).await)
    }

    async fn handle(&self, messages: Vec<Message>) -> Batch {
        let handled = stream::iter(messages).map(|message| self.handle_one(message));
        let mut outcomes = handled.buffer_unordered(CONCURRENCY);
        let mut batch = Batch::default();
        let mut done = Vec::new();
        while let Some(outcome) = outcomes.next().await {
            let word = match outcome {
                Outcome::Handled(message) => {
                    batch.handled += 1;
                    done.push(message.receipt);
                    "handled"
                }
                Outcome::Poison(message) => {
                    batch.poison += 1;
                    let left = self.queue_state().await.is_none_or(|state| state.redrives);
                    // Its words stay out of the log: nobody knows what they are.
                    tracing::warn!(
                        message = message.id,
                        bytes = message.body.len(),
                        receives = message.receives,
                        left_to_redrive = left,
                        "a message that is no event of a bucket"
                    );
                    if !left {
                        done.push(message.receipt);
                    }
                    "poison"
                }
                Outcome::Later(message) => {
                    batch.postponed += 1;
                    self.postpone(&message).await;
                    "postponed"
                }
            };
            metrics::counter!(names::SQS_MESSAGES, "outcome" => word).increment(1);
        }
        self.delete(&done).await;
        batch
    }

    async fn handle_one(&self, message: Message) -> Outcome {
        let Some(events) = read(&message.body) else { return Outcome::Poison(message) };
        match self.app.note_events(events).await {
            Ok(()) => Outcome::Handled(message),
            Err(error) => {
                later(&message, &error);
                Outcome::Later(message)
            }
        }
    }

    async fn delete(&self, receipts: &[String]) {
        if receipts.is_empty() {
            return;
        }
        match self.queue.delete(receipts).await {
            Ok(0) => {}
            Ok(failed) => tracing::warn!(failed, "handled events not deleted; they come again"),
            Err(error) => report(&error, "handled events not deleted; they come again"),
        }
    }

    async fn postpone(&self, message: &Message) {
        let doublings = message.receives.saturating_sub(1).min(16);
        let pause = (FIRST_POSTPONE * (1 << doublings)).min(LONGEST_POSTPONE);
        if let Err(error) = self.queue.postpone(&message.receipt, pause).await {
            report(&error, "an event not put off; it comes when its time is over");
        }
    }

    async fn look_at_queue(&self) {
        if let Some(state) = self.queue_state().await {
            let gauge = |state, count| {
                let gauge = metrics::gauge!(names::SQS_QUEUE, "state" => state);
                gauge.set(names::as_gauge(count));
            };
            gauge("waiting", state.waiting);
            gauge("in_flight", state.in_flight);
        }
    }

    /// How the queue stands, as it was not long ago; `None` where it does not tell.
    async fn queue_state(&self) -> Option<QueueState> {
        let known = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, state)) = known
            && at.elapsed() < STATE_AGE
        {
            return state;
        }
        let told = self.queue.state().await;
        let state = match told {
            Ok(state) => Some(state),
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the queue does not tell how it stands"
                );
                None
            }
        };
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), state));
        state
    }
}

/// The events in a message; `None` for what is no event of a bucket.
fn read(body: &str) -> Option<Vec<ObjectEvent>> {
    if body.len() > MAX_LEN {
        return None;
    }
    event::parse(&serde_json::from_str(body).ok()?).ok()
}

fn later(message: &Message, error: &AppError) {
    tracing::warn!(
        message = message.id,
        receives = message.receives,
        error = error as &dyn std::error::Error,
        "an event put off"
    );
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

/// How often in a row it went wrong.
#[derive(Debug, Default)]
struct Trouble(u32);

impl Trouble {
    fn note(&mut self, failed: bool) {
        self.0 = if failed { self.0.saturating_add(1) } else { 0 };
    }

    /// How long to leave queue and stores alone; `chance` is from 0 to 1.
    fn pause(&self, chance: f64) -> Option<Duration> {
        let doublings = self.0.checked_sub(1)?.min(16);
        let pause = (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE);
        Some(pause.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_end_with_the_trouble() {
        let pause = |n, chance| Trouble(n).pause(chance).map(|pause| pause.as_millis());
        assert_eq!(
            [0, 1, 2, 3, 99].map(|n| pause(n, 1.0)),
            [None, Some(1000), Some(2000), Some(4000), Some(60_000)]
        );
        assert_eq!(pause(1, 0.0), Some(500));
        let mut trouble = Trouble(7);
        trouble.note(false);
        assert_eq!(trouble.pause(1.0), None);
    }

    #[test]
    fn only_events_are_read() {
        let test_event = r#"{"Service": "Amazon S3", "Event": "s3:TestEvent"}"#;
        assert_eq!(read(test_event), Some(vec![]));
        let deep = "[".repeat(100_000);
        let huge = format!("{{\"Records\": [], \"x\": \"{}\"}}", "x".repeat(MAX_LEN));
        for poison in ["", "hello", "{}", "{\"Records\"", deep.as_str(), huge.as_str()] {
            assert!(read(poison).is_none());
        }
    }
}
