//! One answer for all who ask at about the same time: for questions that anybody may ask and
//! that cost something.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// The answer that is there, or on its way.
#[derive(Debug)]
pub struct SingleFlight<T> {
    keep: Duration,
    latest: Mutex<Option<watch::Receiver<Option<Answer<T>>>>>,
}

#[derive(Debug, Clone)]
struct Answer<T> {
    at: Instant,
    found: T,
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Answers that hold for so long.
    pub fn kept_for(keep: Duration) -> Self {
        Self { keep, latest: Mutex::new(None) }
    }

    /// The answer of the last while, or of whoever is asking already; else asks. `ask` runs in
    /// a task of its own, so a caller that goes takes it away from nobody; it is to end in
    /// bounded time. `None` where it broke off.
    pub async fn get<F>(&self, ask: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut answer = {
            // Held for no longer than it takes to look.
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            match latest.as_ref().filter(|answer| self.holds(answer)) {
                Some(answer) => answer.clone(),
                None => latest.insert(begin(ask())).clone(),
            }
        };
        let found = answer.wait_for(Option::is_some).await.ok()?;
        found.as_ref().map(|answer| answer.found.clone())
    }

    fn holds(&self, answer: &watch::Receiver<Option<Answer<T>>>) -> bool {
        match &*answer.borrow() {
            Some(answer) => answer.at.elapsed() < self.keep,
            // On its way, unless the task that asked is gone.
            None => answer.has_changed().is_ok(),
        }
    }
}

fn begin<T, F>(asking: F) -> watch::Receiver<Option<Answer<T>>>
where
    T: Send + Sync + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let found = asking.await;
        // Nobody may be there to hear it any more.
        let _ = sender.send(Some(Answer { at: Instant::now(), found }));
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
    async fn all_who_ask_meanwhile_share_one_answer_and_who_leaves_takes_it_from_nobody() {
        let flight = Arc::new(SingleFlight::kept_for(Duration::from_mins(1)));
        let (asked, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (flight, asked, gate) = (flight.clone(), asked.clone(), gate.clone());
            tokio::spawn(async move {
                flight
                    .get(|| async move {
                        let _open = gate.acquire().await;
                        asked.fetch_add(1, Ordering::SeqCst) + 1
                    })
                    .await
            })
        };
        let first = ask();
        let others: Vec<_> = (0..20).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        first.abort();
        gate.close();
        for other in others {
            assert_eq!(other.await.unwrap(), Some(1));
        }
        assert_eq!(ask().await.unwrap(), Some(1), "and it is kept");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn an_answer_that_is_old_or_broke_off_is_asked_for_again() {
        let flight = SingleFlight::kept_for(Duration::ZERO);
        assert_eq!(flight.get(|| async { 1 }).await, Some(1));
        assert_eq!(flight.get(|| async { 2 }).await, Some(2));
        let flight = SingleFlight::kept_for(Duration::from_mins(1));
        assert_eq!(flight.get(|| async { panic!("broke off") }).await, None::<i32>);
        assert_eq!(flight.get(|| async { 3 }).await, Some(3));
        assert_eq!(flight.get(|| async { 4 }).await, Some(3));
    }
}
