//! Runs one computation at a time and shares its result with concurrent callers. Used for expensive
//! results of public routes.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// The last result, or the computation in progress.
#[derive(Debug)]
pub struct SingleFlight<T> {
    max_age: Duration,
    latest: Mutex<Option<watch::Receiver<Option<Outcome<T>>>>>,
}

#[derive(Debug, Clone)]
struct Outcome<T> {
    at: Instant,
    value: T,
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Results are reused until they are older than `max_age`.
    pub fn new(max_age: Duration) -> Self {
        Self { max_age, latest: Mutex::new(None) }
    }

    /// Returns the last result if it is recent, otherwise the result of the computation in
    /// progress, otherwise the result of a new one. `compute` runs in a separate task, so that it
    /// continues if its caller is dropped. It must end in bounded time. Returns `None` if it
    /// panicked.
    pub async fn get<F>(&self, compute: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut receiver = {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            match latest.as_ref().filter(|receiver| self.is_usable(receiver)) {
                Some(receiver) => receiver.clone(),
                None => latest.insert(spawn(compute())).clone(),
            }
        };
        let outcome = receiver.wait_for(Option::is_some).await.ok()?;
        outcome.as_ref().map(|outcome| outcome.value.clone())
    }

    fn is_usable(&self, receiver: &watch::Receiver<Option<Outcome<T>>>) -> bool {
        match &*receiver.borrow() {
            Some(outcome) => outcome.at.elapsed() < self.max_age,
            // The computation is in progress, unless the task panicked.
            None => receiver.has_changed().is_ok(),
        }
    }
}

fn spawn<T, F>(computation: F) -> watch::Receiver<Option<Outcome<T>>>
where
    T: Send + Sync + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let value = computation.await;
        // Fails if all receivers were dropped, which does not matter.
        let _ = sender.send(Some(Outcome { at: Instant::now(), value }));
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn concurrent_callers_share_one_result_even_if_the_first_caller_is_dropped() {
        let flight = Arc::new(SingleFlight::new(Duration::from_mins(1)));
        let (computed, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let call = || {
            let (flight, computed, gate) = (flight.clone(), computed.clone(), gate.clone());
            tokio::spawn(async move {
                flight
                    .get(|| async move {
                        let _open = gate.acquire().await;
                        computed.fetch_add(1, Ordering::SeqCst) + 1
                    })
                    .await
            })
        };
        let first = call();
        let others: Vec<_> = (0..20).map(|_| call()).collect();
        tokio::task::yield_now().await;
        first.abort();
        gate.close();
        for other in others {
            assert_eq!(other.await.unwrap(), Some(1));
        }
        assert_eq!(call().await.unwrap(), Some(1), "a recent result is reused");
        assert_eq!(computed.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_result_that_is_old_or_failed_is_computed_again() {
        let flight = SingleFlight::new(Duration::ZERO);
        assert_eq!(flight.get(|| async { 1 }).await, Some(1));
        assert_eq!(flight.get(|| async { 2 }).await, Some(2));
        let flight = SingleFlight::new(Duration::from_mins(1));
        assert_eq!(flight.get(|| async { panic!("failed") }).await, None::<i32>);
        assert_eq!(flight.get(|| async { 3 }).await, Some(3));
        assert_eq!(flight.get(|| async { 4 }).await, Some(3));
    }
}
