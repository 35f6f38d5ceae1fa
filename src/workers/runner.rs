//! Repeats the ticks of a worker: pauses between them, backs off after failures, and stops.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::AppError;
use crate::domain::backoff::Backoff;

/// The pauses after failures. The worker notices a recovered database or queue within the longest
/// pause.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_mins(1) };

/// When the next tick starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Now,
    /// After this pause.
    After(Duration),
    /// After a pause that grows with each consecutive failure. The worker has logged the error.
    BackOff,
}

/// A loop of ticks.
pub trait Worker: Send + Sync + 'static {
    /// The name in the log.
    const NAME: &'static str;

    /// Does one round. After `stop` is cancelled it returns soon, and completes only work that must
    /// not be interrupted. An error is logged, and the next tick starts after a pause.
    fn tick(&self, stop: &CancellationToken)
    -> impl Future<Output = Result<Next, AppError>> + Send;
}

/// Running loops. Dropping this stops them without waiting.
pub struct Running {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Running {
    /// Creates a value without loops. [`Self::spawn`] adds them.
    pub fn new() -> Self {
        Self { tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Starts a loop.
    pub fn spawn<W: Worker>(&self, worker: Arc<W>) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { run(&*worker, &stop).await });
    }

    /// Stops the loops and waits until their ticks have ended, at most `patience`.
    pub async fn stop(self, patience: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!("workers did not stop in time; their unfinished work is repeated later");
        }
    }
}

impl Default for Running {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn run<W: Worker>(worker: &W, stop: &CancellationToken) {
    let mut failures = Failures::default();
    while !stop.is_cancelled() {
        let next = worker.tick(stop).await.unwrap_or_else(|error| {
            tracing::warn!(
                worker = W::NAME,
                error = &error as &dyn std::error::Error,
                "a round of a worker failed; it is repeated after a pause"
            );
            Next::BackOff
        });
        failures.record(next == Next::BackOff);
        let pause = match next {
            Next::Now => continue,
            Next::After(pause) => pause,
            Next::BackOff => failures.pause(rand::random()),
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// The number of consecutive failed ticks.
#[derive(Debug, Default)]
struct Failures(u32);

impl Failures {
    fn record(&mut self, failed: bool) {
        self.0 = if failed { self.0.saturating_add(1) } else { 0 };
    }

    /// The pause before the next tick; `jitter` is from 0 to 1.
    fn pause(&self, jitter: f64) -> Duration {
        BACKOFF.pause(self.0.saturating_sub(1)).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_start_over_after_a_success() {
        let pause = |n, jitter| Failures(n).pause(jitter).as_millis();
        assert_eq!([1, 2, 3, 99].map(|n| pause(n, 1.0)), [1000, 2000, 4000, 60_000]);
        assert_eq!(pause(1, 0.0), 500);
        let mut failures = Failures(7);
        failures.record(false);
        failures.record(true);
        assert_eq!(failures.pause(1.0).as_millis(), 1000);
    }

    #[derive(Default)]
    struct Counter {
        ticks: AtomicU32,
        waiting: Notify,
        ended: AtomicU32,
    }

    impl Worker for Counter {
        const NAME: &'static str = "counter";

        async fn tick(&self, stop: &CancellationToken) -> Result<Next, AppError> {
            match self.ticks.fetch_add(1, Ordering::SeqCst) {
                0 => return Ok(Next::Now),
                1 => return Ok(Next::After(Duration::from_millis(1))),
                2 => return Err(AppError::NotArrived),
                _ => {}
            }
            self.waiting.notify_one();
            stop.cancelled().await;
            self.ended.fetch_add(1, Ordering::SeqCst);
            Ok(Next::Now)
        }
    }

    #[tokio::test]
    async fn ticks_repeat_after_pauses_and_failures_and_end_with_stop() {
        let worker = Arc::new(Counter::default());
        let running = Running::new();
        running.spawn(Arc::clone(&worker));
        worker.waiting.notified().await;
        running.stop(Duration::from_secs(10)).await;
        assert_eq!(worker.ended.load(Ordering::SeqCst), 1, "the tick was not interrupted");
        assert_eq!(worker.ticks.load(Ordering::SeqCst), 4, "no tick follows");
    }
}
