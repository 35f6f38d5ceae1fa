//! A run from start to end: its row, its locks and their renewal, cancellation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ReconcileSettings;
use super::pace::Pace;
use super::report::Report;
use super::worker::{WorkError, Worker};
use crate::app::{App, AppError};
use crate::db::DbError;
use crate::db::runs::{Renewed, Started};
use crate::domain::run::{Counters, Run, RunRequest, RunStatus};
use crate::domain::{PolicyName, RunId};

/// How often a run's locks are renewed, at least; also how soon a cancellation is seen.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Why a run did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One of that mode and policy is at work.
    #[error("run {0} of that mode and policy is at work")]
    Held(RunId),
    /// What was asked makes no sense, or something it needs failed.
    #[error(transparent)]
    App(#[from] AppError),
}

impl From<DbError> for StartError {
    fn from(error: DbError) -> Self {
        Self::App(error.into())
    }
}

/// Starts runs.
pub struct Reconciler {
    /// The use cases.
    pub app: Arc<App>,
    /// How runs work.
    pub settings: ReconcileSettings,
    /// Where runs work: the process's own runtime, which outlives a request's.
    runtime: Handle,
    pace: Pace,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// A run's progress, for people to watch.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// What it changed and saw so far.
    pub counters: Counters,
    /// How many findings it has so far.
    pub findings: u64,
    /// How many shards there are, as far as is known.
    pub shards: u64,
    /// How many of them are done.
    pub shards_done: u64,
}

/// A run at work in this process.
pub struct RunHandle {
    /// As it was when it started.
    pub run: Run,
    report: Arc<Report>,
    task: JoinHandle<Run>,
}

impl RunHandle {
    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            counters: self.report.counters(),
            findings: self.report.findings(),
            shards: self.report.shards.0.load(Ordering::Relaxed),
            shards_done: self.report.shards.1.load(Ordering::Relaxed),
        }
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// The run as it ended; as it started, where its task was torn down.
    pub async fn wait(self) -> Run {
        self.task.await.unwrap_or(self.run)
    }
}

/// How the work ended.
enum Ending {
    Done(Result<(), WorkError>),
    Cancelled(&'static str),
    LostLock,
}

impl Reconciler {
    /// A reconciler whose runs work on the ambient runtime.
    pub fn new(app: Arc<App>, settings: ReconcileSettings) -> Self {
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let pace = Pace::new(settings.max_requests_per_second);
        Self { app, settings, runtime: Handle::current(), pace, tasks, shutdown }
    }

    /// Ends the runs of this process and waits until their rows say so.
    pub async fn shut_down(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Takes the locks, writes the run's row, and goes to work in a task of its own.
    pub async fn start(self: &Arc<Self>, request: RunRequest) -> Result<RunHandle, StartError> {
        self.start_as(RunId(self.app.ids.uuid()), request).await
    }

    /// As [`Self::start`], with an id that was chosen before.
    pub async fn start_as(
        self: &Arc<Self>,
        id: RunId,
        request: RunRequest,
    ) -> Result<RunHandle, StartError> {
        let policies: Vec<PolicyName> = match &request.policy {
            Some(name) => vec![self.app.policy(Some(name))?.name.clone()],
            None => self.app.policies.keys().cloned().collect(),
        };
        let (lease, now) = (self.settings.lease, self.app.now());
        let started = self.app.db.start_run(id, request, &policies, lease, now).await?;
        let run = match started {
            Started::Run(run) => run,
            Started::Held(holder) => return Err(StartError::Held(holder)),
        };
        let report = Arc::new(Report::new(id));
        let (this, row, notes) = (Arc::clone(self), run.clone(), Arc::clone(&report));
        let work = async move { Box::pin(this.run_to_end(row, policies, &notes)).await };
        let task = self.tasks.spawn_on(work, &self.runtime);
        Ok(RunHandle { run, report, task })
    }

    async fn run_to_end(&self, mut run: Run, policies: Vec<PolicyName>, report: &Report) -> Run {
        let locks = policies.len() as u64;
        let ending = tokio::select! {
            done = self.work(&run.request, &policies, report) => Ending::Done(done),
            ending = self.keep_locks(&run, locks, report) => ending,
            () = self.shutdown.cancelled() => Ending::Cancelled("the service is shutting down"),
        };
        if let Err(error) = report.flush(&self.app).await {
            tracing::error!(run = %run.id, error = &error as &dyn std::error::Error,
                "findings not written");
        }
        run.counters = report.counters();
        run.finished_at = Some(self.app.now());
        (run.status, run.error) = match ending {
            Ending::Done(Ok(())) => (RunStatus::Succeeded, None),
            Ending::Done(Err(WorkError::Stopped(why))) => (RunStatus::Stopped, Some(why)),
            Ending::Done(Err(error)) => (RunStatus::Failed, Some(chain(&error))),
            Ending::Cancelled(why) => (RunStatus::Cancelled, Some(why.to_owned())),
            Ending::LostLock => {
                (RunStatus::Failed, Some("another process took the run's lock".to_owned()))
            }
        };
        if let Err(error) = self.app.db.finish_run(&run).await {
            tracing::error!(run = %run.id, error = &error as &dyn std::error::Error,
                "the run's end is not written; its lock lapses by itself");
        }
        log_end(&run, report.findings());
        run
    }

    async fn work(
        &self,
        request: &RunRequest,
        policies: &[PolicyName],
        report: &Report,
    ) -> Result<(), WorkError> {
        let budget = AtomicU64::new(self.settings.max_deletions);
        let mut ended = Ok(());
        for name in policies {
            let done = self.work_on(name, request, report, &budget).await;
            // One policy's end leaves the others their turn: its store may be another one.
            // An error says more than a stop.
            if matches!(ended, Ok(()) | Err(WorkError::Stopped(_))) && done.is_err() {
                ended = done;
            }
        }
        ended
    }

    async fn work_on(
        &self,
        policy: &PolicyName,
        request: &RunRequest,
        report: &Report,
        budget: &AtomicU64,
    ) -> Result<(), WorkError> {
        let policy = self.app.policy(Some(policy))?;
        let worker =
            Worker::new(&self.app, policy, request, &self.settings, report, budget, &self.pace)
                .await?;
        worker.run().await
    }

    /// Renews the locks until one is lost or the run is to end. The work is dropped then:
    /// each of its batches is a transaction of its own.
    async fn keep_locks(&self, run: &Run, locks: u64, report: &Report) -> Ending {
        let mut ticks = tokio::time::interval(HEARTBEAT.min(self.settings.lease / 3));
        let mut renewed_at = tokio::time::Instant::now();
        loop {
            ticks.tick().await;
            let run = Run { counters: report.counters(), ..run.clone() };
            match self.app.db.renew_run(&run, locks, self.settings.lease).await {
                Ok(Renewed::Held) => renewed_at = tokio::time::Instant::now(),
                Ok(Renewed::CancelRequested) => return Ending::Cancelled("cancelled on request"),
                Ok(Renewed::Lost) => return Ending::LostLock,
                Err(error) => {
                    tracing::warn!(run = %run.id, error = &error as &dyn std::error::Error,
                        "the run's lock was not renewed");
                    if renewed_at.elapsed() >= self.settings.lease {
                        return Ending::LostLock;
                    }
                }
            }
        }
    }
}

/// An error and what stands behind it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}

fn log_end(run: &Run, findings: u64) {
    let Counters {
        listed,
        list_requests,
        head_requests,
        confirmed,
        rejected,
        expired,
        missing,
        orphans,
        foreign,
        overwritten,
        late,
        aborted_multipart,
        deleted,
        errors,
    } = run.counters;
    let took = run.finished_at.map_or(0, |end| (end - run.started_at).num_milliseconds());
    tracing::info!(run = %run.id, mode = run.request.mode.name(), dry_run = run.request.dry_run,
        trigger = run.request.trigger.name(), status = run.status.name(), took_ms = took,
        listed, list_requests, head_requests, confirmed, rejected, expired, missing, orphans,
        foreign, overwritten, late, aborted_multipart, deleted, errors, findings,
        error = run.error.as_deref(), "reconciliation ended");
}
