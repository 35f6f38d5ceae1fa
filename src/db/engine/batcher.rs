//! Work in batches: requests that arrive while a batch is being processed are processed together by
//! the next one. A single request of an idle service is processed at once, without a timer.
//!
//! Writes use a [`Batcher`], which is one task, because the requests of a batch share a commit.
//! Reads use a [`PerThreadBatcher`], which has a task for each thread.

use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use thread_local::ThreadLocal;
use tokio::sync::{mpsc, oneshot};

use super::error::{DbError, Result};

/// The number of requests that may wait. A batch takes milliseconds. With a longer queue, the last
/// requests would be too late for their clients.
const QUEUE: usize = 2048;

/// The time limit of a batch: less than the lease of an idempotency key. Without a limit, a batch
/// whose connection breaks in the middle of a transaction waits until the kernel reports the broken
/// connection.
const TIMEOUT: Duration = Duration::from_secs(15);

type Request<I, O> = (I, oneshot::Sender<Result<O>>);

/// When the task lets others run, so that more requests can join the next batch. Yielding takes no
/// time if no other task is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Yield {
    /// Yields to the other tasks of its thread, before a batch.
    TaskBefore,
    /// Yields to the other threads, after a batch.
    ThreadAfter,
}

/// Submits requests to a task. The task ends when the last clone is dropped.
pub(in crate::db) struct Batcher<I, O>(mpsc::Sender<Request<I, O>>);

impl<I, O> Clone for Batcher<I, O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// Starts the task on the current runtime. `work` processes at most `max_batch` requests at
    /// once and returns their results in the same order. `name` is for the log.
    pub fn start<F>(
        name: &'static str,
        max_batch: usize,
        work: impl Fn(Vec<I>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Vec<Result<O>>> + Send + 'static,
    {
        Self::start_with(name, max_batch, Yield::ThreadAfter, work)
    }

    fn start_with<F>(
        name: &'static str,
        max_batch: usize,
        yields: Yield,
        work: impl Fn(Vec<I>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Vec<Result<O>>> + Send + 'static,
    {
        let (sender, mut queue) = mpsc::channel::<Request<I, O>>(QUEUE);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(max_batch);
            while queue.recv_many(&mut batch, max_batch).await > 0 {
                if yields == Yield::TaskBefore {
                    tokio::task::yield_now().await;
                    let room = max_batch - batch.len();
                    let _ = queue.recv_many(&mut batch, room).now_or_never();
                }
                let (items, replies): (Vec<I>, Vec<_>) = batch.drain(..).unzip();
                // The next batch is processed even if this one panics: a panic leaves no state
                // behind.
                let work = AssertUnwindSafe(work(items)).catch_unwind();
                if let Ok(Ok(results)) = tokio::time::timeout(TIMEOUT, work).await {
                    for (reply, result) in replies.into_iter().zip(results) {
                        // Fails if the caller no longer waits.
                        let _ = reply.send(result);
                    }
                    if yields == Yield::ThreadAfter {
                        std::thread::yield_now();
                    }
                } else {
                    // Dropping the reply channels returns an error to their callers.
                    tracing::error!(
                        what = name,
                        requests = replies.len(),
                        "a batch of database requests failed or took too long"
                    );
                }
            }
        });
        Self(sender)
    }

    /// Processes a request with the next batch. Waits if the queue is full. The request is
    /// processed even if the returned future is dropped. Returns [`DbError::Busy`] if the batch
    /// failed.
    pub async fn submit(&self, item: I) -> Result<O> {
        let (reply, replied) = oneshot::channel();
        self.0.send((item, reply)).await.map_err(|_| DbError::Busy)?;
        replied.await.map_err(|_| DbError::Busy)?
    }

    /// Like [`Self::submit`], but returns [`DbError::Busy`] at once if the queue is full.
    pub async fn try_submit(&self, item: I) -> Result<O> {
        let (reply, replied) = oneshot::channel();
        self.0.try_send((item, reply)).map_err(|_| DbError::Busy)?;
        replied.await.map_err(|_| DbError::Busy)?
    }
}

/// A [`Batcher`] for each thread that submits, on that thread's runtime. A request to a task on
/// another thread costs two wake-ups of a thread, which take longer than a short query. Here all
/// requests that a thread has read from its sockets form a batch.
pub(in crate::db) struct PerThreadBatcher<I: Send, O: Send> {
    start: Arc<dyn Fn() -> Batcher<I, O> + Send + Sync>,
    started: Arc<ThreadLocal<RefCell<Batcher<I, O>>>>,
}

impl<I: Send, O: Send> Clone for PerThreadBatcher<I, O> {
    fn clone(&self) -> Self {
        Self { start: Arc::clone(&self.start), started: Arc::clone(&self.started) }
    }
}

impl<I: Send + 'static, O: Send + 'static> PerThreadBatcher<I, O> {
    /// Like [`Batcher::start`]; the task of a thread starts with its first request.
    pub fn start<W, F>(name: &'static str, max_batch: usize, work: W) -> Self
    where
        W: Fn(Vec<I>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Vec<Result<O>>> + Send + 'static,
    {
        let start = move || Batcher::start_with(name, max_batch, Yield::TaskBefore, work.clone());
        Self { start: Arc::new(start), started: Arc::default() }
    }

    /// Like [`Batcher::submit`], to the task of this thread.
    pub async fn submit(&self, item: I) -> Result<O> {
        let batcher = self.of_this_thread();
        batcher.submit(item).await
    }

    fn of_this_thread(&self) -> Batcher<I, O> {
        let mut batcher = self.started.get_or(|| RefCell::new((self.start)())).borrow_mut();
        // A new thread may get the slot of a thread that has ended, together with its runtime.
        if batcher.0.is_closed() {
            *batcher = (self.start)();
        }
        batcher.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn requests_during_a_batch_share_the_next_one() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sizes);
        let batcher = Batcher::start("doubling", 4, move |numbers: Vec<u32>| {
            seen.lock().unwrap().push(numbers.len());
            async move {
                tokio::task::yield_now().await;
                numbers.into_iter().map(|n| Ok(n * 2)).collect()
            }
        });
        assert_eq!(
            batcher.submit(21).await.unwrap(),
            42,
            "a single request does not wait for others"
        );
        let responses = join_all((0..10).map(|n| batcher.submit(n))).await;
        let responses: Vec<_> = responses.into_iter().map(Result::unwrap).collect();
        assert_eq!(responses, (0..10).map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!(*sizes.lock().unwrap(), [1, 4, 4, 2]);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_try_submit_and_delays_submit() {
        let batcher = Batcher::start("waiting", 1, |numbers: Vec<usize>| async move {
            numbers.into_iter().map(Ok).collect()
        });
        // The task receives nothing before this caller waits for the first time.
        let tried = join_all((0..=QUEUE).map(|n| batcher.try_submit(n))).await;
        let refused = tried.iter().filter(|one| matches!(one, Err(DbError::Busy)));
        assert_eq!(refused.count(), 1);
        let requests = join_all((0..QUEUE + 100).map(|n| batcher.submit(n))).await;
        assert!(requests.into_iter().enumerate().all(|(n, one)| one.unwrap() == n));
    }

    #[tokio::test]
    async fn a_panic_fails_only_the_callers_of_its_batch() {
        let batcher = Batcher::start("breaking", 8, |numbers: Vec<u32>| async move {
            assert!(!numbers.contains(&13), "thirteen");
            numbers.into_iter().map(Ok).collect()
        });
        assert!(matches!(batcher.submit(13).await, Err(DbError::Busy)));
        assert_eq!(batcher.submit(1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_thread_batches_the_requests_of_its_other_tasks() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sizes);
        let threads = PerThreadBatcher::start("counting", 4, move |requests: Vec<()>| {
            seen.lock().unwrap().push(requests.len());
            async move { requests.into_iter().map(Ok).collect() }
        });
        // This request starts the task of this thread.
        threads.submit(()).await.unwrap();
        let later = async {
            tokio::task::yield_now().await;
            threads.submit(()).await
        };
        let (first, second) = tokio::join!(threads.submit(()), later);
        first.and(second).unwrap();
        assert_eq!(*sizes.lock().unwrap(), [1, 2]);
    }

    #[test]
    fn each_thread_has_a_batcher_that_ends_with_its_runtime() {
        let threads = PerThreadBatcher::start("naming", 4, |requests: Vec<()>| async move {
            let name = std::thread::current().name().map(str::to_owned);
            requests.into_iter().map(|()| Ok(name.clone())).collect()
        });
        // A thread that starts after another has ended may get its thread-local slot.
        for name in ["one", "two", "three"] {
            let threads = threads.clone();
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let responses =
                    runtime.unwrap().block_on(join_all((0..6).map(|_| threads.submit(()))));
                assert!(responses.into_iter().all(|by| by.unwrap().as_deref() == Some(name)));
            });
            thread.unwrap().join().unwrap();
        }
    }
}
