//! Work in groups: what is asked while a group is at work is done together by the next one.
//! An idle service does a single one at once: no timer is waited out.
//!
//! Writes share one task, [`Grouped`], as they share a commit. Reads have one for each thread
//! that asks, [`EachThread`].

use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use thread_local::ThreadLocal;
use tokio::sync::{mpsc, oneshot};

use crate::db::{DbError, Result};

/// How many may stand in the queue. A group takes milliseconds: what is written behind this
/// many would be answered too late anyway.
const QUEUE: usize = 2048;

/// How long a group may take: less than an idempotency key's lease. A database that is cut
/// off in the middle of a transaction is else waited for until the kernel gives up.
const PATIENCE: Duration = Duration::from_secs(15);

/// After so many groups there is a rest: others want what these keep too.
const IN_A_ROW: u32 = 2;

/// After so long without anything to do there is one. Who asks again and again is back earlier.
const LULL: Duration = Duration::from_millis(1);

type Rest = Box<dyn Fn() + Send + Sync>;

type Asked<I, O> = (I, oneshot::Sender<Result<O>>);

/// When a task gives way to those who may ask too, which makes its next group a larger one. Either
/// takes no time where nobody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Company {
    /// To what else its own thread has to do and to read, once the first has asked.
    Before,
    /// To threads that wait for a CPU, once a group is answered.
    Behind,
}

/// The way to the task that works; the task ends with the last of these.
pub(in crate::db) struct Grouped<I, O>(mpsc::Sender<Asked<I, O>>);

impl<I, O> Clone for Grouped<I, O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I: Send + 'static, O: Send + 'static> Grouped<I, O> {
    /// Starts the task, on the ambient runtime. `work` answers up to `most` of them at once,
    /// in their order. Behind each group other threads run before the next one begins.
    pub fn start<F>(
        what: &'static str,
        most: usize,
        work: impl Fn(Vec<I>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Vec<Result<O>>> + Send + 'static,
    {
        Self::start_with(what, most, work, None, Company::Behind)
    }

    /// The same; `rest` is called when there was nothing to do for a while, and from time to time.
    pub fn start_resting<F>(
        what: &'static str,
        most: usize,
        work: impl Fn(Vec<I>) -> F + Send + 'static,
        rest: impl Fn() + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Vec<Result<O>>> + Send + 'static,
    {
        Self::start_with(what, most, work, Some(Box::new(rest)), Company::Behind)
    }

    fn start_with<F>(
        what: &'static str,
        most: usize,
        work: impl Fn(Vec<I>) -> F + Send + 'static,
        rest: Option<Rest>,
        company: Company,
    ) -> Self
    where
        F: Future<Output = Vec<Result<O>>> + Send + 'static,
    {
        let (sender, mut queue) = mpsc::channel::<Asked<I, O>>(QUEUE);
        tokio::spawn(async move {
            let mut group = Vec::with_capacity(most);
            let mut groups = 0_u32;
            while next(&mut queue, &mut group, most, rest.as_ref()).await > 0 {
                if company == Company::Before {
                    tokio::task::yield_now().await;
                    let more = most - group.len();
                    let _ = queue.recv_many(&mut group, more).now_or_never();
                }
                let (asked, answers): (Vec<I>, Vec<_>) = group.drain(..).unzip();
                // Whatever becomes of this group, the next has its turn: nothing that a panic
                // leaves half done is looked at again.
                let work = AssertUnwindSafe(work(asked)).catch_unwind();
                if let Ok(Ok(done)) = tokio::time::timeout(PATIENCE, work).await {
                    for (answer, done) in answers.into_iter().zip(done) {
                        // Nobody may be there to hear it any more.
                        let _ = answer.send(done);
                    }
                    if company == Company::Behind {
                        std::thread::yield_now();
                    }
                } else {
                    // Those who wait are told that their answers were dropped.
                    tracing::error!(what, asked = answers.len(), "a group was given up");
                }
                groups = groups.wrapping_add(1);
                if let Some(rest) = rest.as_ref().filter(|_| groups.is_multiple_of(IN_A_ROW)) {
                    rest();
                }
            }
        });
        Self(sender)
    }

    /// Has it done with the next group, and waits for a place in the queue where it is full. A
    /// caller that is dropped meanwhile does not undo it.
    pub async fn ask(&self, asked: I) -> Result<O> {
        let (answer, answered) = oneshot::channel();
        self.0.send((asked, answer)).await.map_err(|_| DbError::Busy)?;
        answered.await.map_err(|_| DbError::Busy)?
    }

    /// The same, but refused at once where the queue is full.
    pub async fn ask_now(&self, asked: I) -> Result<O> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send((asked, answer)).map_err(|_| DbError::Busy)?;
        // An answer is dropped with its group, or with the runtime.
        answered.await.map_err(|_| DbError::Busy)?
    }
}

/// Takes the next group, and calls `rest` before it waits for longer.
async fn next<A>(
    queue: &mut mpsc::Receiver<A>,
    group: &mut Vec<A>,
    most: usize,
    rest: Option<&Rest>,
) -> usize {
    if let Some(rest) = rest {
        if let Ok(many) = tokio::time::timeout(LULL, queue.recv_many(group, most)).await {
            return many;
        }
        rest();
    }
    queue.recv_many(group, most).await
}

/// A queue and a task for each thread that asks, on that thread's own runtime. Between a thread
/// and a task elsewhere each question and each answer wakes somebody, which takes longer than a
/// short query; here all that a thread has read of its sockets makes a group.
pub(in crate::db) struct EachThread<I: Send, O: Send> {
    start: Arc<dyn Fn() -> Grouped<I, O> + Send + Sync>,
    started: Arc<ThreadLocal<RefCell<Grouped<I, O>>>>,
}

impl<I: Send, O: Send> Clone for EachThread<I, O> {
    fn clone(&self) -> Self {
        Self { start: Arc::clone(&self.start), started: Arc::clone(&self.started) }
    }
}

impl<I: Send + 'static, O: Send + 'static> EachThread<I, O> {
    /// As [`Grouped::start`], when a thread asks for the first time.
    pub fn start<W, F>(what: &'static str, most: usize, work: W) -> Self
    where
        W: Fn(Vec<I>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Vec<Result<O>>> + Send + 'static,
    {
        let start = move || Grouped::start_with(what, most, work.clone(), None, Company::Before);
        Self { start: Arc::new(start), started: Arc::default() }
    }

    /// As [`Grouped::ask`], of this thread's task.
    pub async fn ask(&self, asked: I) -> Result<O> {
        let here = self.here();
        here.ask(asked).await
    }

    fn here(&self) -> Grouped<I, O> {
        let mut here = self.started.get_or(|| RefCell::new((self.start)())).borrow_mut();
        // The runtime may be gone of a thread whose place this one has taken.
        if here.0.is_closed() {
            *here = (self.start)();
        }
        here.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_while_a_group_is_at_work_is_done_by_the_next_one() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sizes);
        let grouped = Grouped::start("doubling", 4, move |numbers: Vec<u32>| {
            seen.lock().unwrap().push(numbers.len());
            async move {
                tokio::task::yield_now().await;
                numbers.into_iter().map(|n| Ok(n * 2)).collect()
            }
        });
        assert_eq!(grouped.ask(21).await.unwrap(), 42, "one alone does not wait for others");
        let answers = join_all((0..10).map(|n| grouped.ask(n))).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (0..10).map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!(*sizes.lock().unwrap(), [1, 4, 4, 2]);
    }

    #[tokio::test]
    async fn it_rests_when_nothing_is_left_and_from_time_to_time() {
        let log = Arc::new(Mutex::new(String::new()));
        let (working, resting) = (Arc::clone(&log), Arc::clone(&log));
        let work = move |asked: Vec<()>| {
            working.lock().unwrap().push('w');
            async move { asked.into_iter().map(Ok).collect() }
        };
        let rest = move || resting.lock().unwrap().push('r');
        let grouped = Grouped::start_resting("working", 1, work, rest);
        join_all((0..11).map(|_| grouped.ask(()))).await;
        let rested = async {
            while !log.lock().unwrap().ends_with('r') {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), rested).await.expect("a rest");
        assert_eq!(*log.lock().unwrap(), "wwrwwrwwrwwrwwrwr");
        grouped.ask(()).await.unwrap();
        assert!(log.lock().unwrap().starts_with("wwrwwrwwrwwrwwrwrw"));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_who_asks_now_and_lets_others_wait() {
        let grouped = Grouped::start("waiting", 1, |numbers: Vec<usize>| async move {
            numbers.into_iter().map(Ok).collect()
        });
        // Nothing is taken out before this task waits for the first time.
        let asked_now = join_all((0..=QUEUE).map(|n| grouped.ask_now(n))).await;
        let refused = asked_now.iter().filter(|one| matches!(one, Err(DbError::Busy)));
        assert_eq!(refused.count(), 1);
        let asked = join_all((0..QUEUE + 100).map(|n| grouped.ask(n))).await;
        assert!(asked.into_iter().enumerate().all(|(n, one)| one.unwrap() == n));
    }

    #[tokio::test]
    async fn a_group_that_breaks_down_takes_only_its_own_callers_along() {
        let grouped = Grouped::start("breaking", 8, |numbers: Vec<u32>| async move {
            assert!(!numbers.contains(&13), "thirteen");
            numbers.into_iter().map(Ok).collect()
        });
        assert!(matches!(grouped.ask(13).await, Err(DbError::Busy)));
        assert_eq!(grouped.ask(1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_thread_takes_along_what_else_it_has_read() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sizes);
        let threads = EachThread::start("counting", 4, move |asked: Vec<()>| {
            seen.lock().unwrap().push(asked.len());
            async move { asked.into_iter().map(Ok).collect() }
        });
        // Its task is there, and stands behind the first to ask.
        threads.ask(()).await.unwrap();
        let later = async {
            tokio::task::yield_now().await;
            threads.ask(()).await
        };
        let (first, second) = tokio::join!(threads.ask(()), later);
        first.and(second).unwrap();
        assert_eq!(*sizes.lock().unwrap(), [1, 2]);
    }

    #[test]
    fn each_thread_has_a_group_of_its_own_and_ends_it_with_its_runtime() {
        let threads = EachThread::start("naming", 4, |asked: Vec<()>| async move {
            let name = std::thread::current().name().map(str::to_owned);
            asked.into_iter().map(|()| Ok(name.clone())).collect()
        });
        // A thread that begins when another has ended may be given what that one had.
        for name in ["one", "two", "three"] {
            let threads = threads.clone();
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let answers = runtime.unwrap().block_on(join_all((0..6).map(|_| threads.ask(()))));
                assert!(answers.into_iter().all(|by| by.unwrap().as_deref() == Some(name)));
            });
            thread.unwrap().join().unwrap();
        }
    }
}
