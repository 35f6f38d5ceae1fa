//! Runs from start to end: what a process starts, takes part in, cancels and waits for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::shard_workers::ShardWorkers;
use super::throttle::Throttle;
use super::{ReconcileSettings, plan};
use crate::app::{App, AppError};
use crate::db::DbError;
use crate::db::reconcile::runs::{NewRun, Started};
use crate::domain::run::{Counters, Progress, Run, RunRequest, RunShard, RunStatus};
use crate::domain::{PolicyName, RunId, Timestamp};
use crate::telemetry::metrics as names;

/// How often a process asks for runs that others started or left.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// How soon it is seen that another process ended a run that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Why a run did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One of that mode and policy is at work.
    #[error("run {0} of that mode and policy is at work")]
    Held(RunId),
    /// Another process started one for the same tick of the schedule.
    #[error("another process started a run for this time")]
    Taken,
    /// What was asked makes no sense, or something it needs failed.
    #[error(transparent)]
    App(#[from] AppError),
}

impl From<DbError> for StartError {
    fn from(error: DbError) -> Self {
        Self::App(error.into())
    }
}

/// Starts runs and works on them.
pub struct Reconciler {
    /// The use cases.
    pub app: Arc<App>,
    /// How runs work.
    pub settings: ReconcileSettings,
    /// Where runs work: the process's own runtime, which outlives a request's.
    pub(super) runtime: Handle,
    pub(super) throttle: Throttle,
    pub(super) shutdown: CancellationToken,
    /// Rung when a run ends in this process.
    pub(super) changed: Notify,
    /// This process, as the shards name it.
    pub(super) holder: Uuid,
    tasks: TaskTracker,
    /// The runs that this process works on.
    active_runs: Mutex<BTreeSet<RunId>>,
}

/// A run, and the process that watches it.
pub struct RunHandle {
    /// As it was when it started.
    pub run: Run,
    reconciler: Arc<Reconciler>,
}

impl RunHandle {
    /// The run as it ended, whoever ended it; as it is, where this process is to end.
    pub async fn wait(self) -> Run {
        let Self { mut run, reconciler } = self;
        loop {
            let changed = reconciler.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            match reconciler.app.db.runs().find(run.id).await {
                Ok(Some(now)) => run = now,
                // Its row is gone: nothing more will be known of it.
                Ok(None) => return run,
                Err(error) => tracing::warn!(run = %run.id,
                    error = &error as &dyn std::error::Error, "the run was not read"),
            }
            if run.status != RunStatus::Running {
                return run;
            }
            tokio::select! {
                () = &mut changed => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = reconciler.shutdown.cancelled() => return run,
            }
        }
    }
}

impl Reconciler {
    /// A reconciler whose runs work on the ambient runtime.
    pub fn new(app: Arc<App>, settings: ReconcileSettings) -> Self {
        let throttle = Throttle::new(settings.max_requests_per_second);
        let holder = app.ids.uuid();
        Self {
            app,
            settings,
            runtime: Handle::current(),
            throttle,
            shutdown: CancellationToken::new(),
            changed: Notify::new(),
            holder,
            tasks: TaskTracker::new(),
            active_runs: Mutex::default(),
        }
    }

    /// Works on whatever runs there are, also those that other processes started or left,
    /// until this process is to end.
    pub fn take_part(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let look_around = async move {
            loop {
                match this.app.db.runs().list_running().await {
                    Ok(runs) => {
                        for run in runs {
                            this.join(run).await;
                        }
                    }
                    Err(error) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "runs to take part in were not looked for"
                    ),
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK_AROUND) => {}
                    () = this.shutdown.cancelled() => return,
                }
            }
        };
        self.tasks.spawn_on(look_around, &self.runtime);
    }

    /// Lets the runs of this process go, for others or for itself after a restart to go on
    /// with, and waits until their rows say so.
    pub async fn shut_down(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if let Err(error) = self.app.db.shards().release_all(self.holder).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "shards are not released; their leases lapse by themselves"
            );
        }
    }

    /// This process, as the shards that it works on name it.
    pub fn holder(&self) -> Uuid {
        self.holder
    }

    /// Whether this process is about to end.
    pub fn is_ending(&self) -> bool {
        self.shutdown.is_cancelled()
    }

    /// Takes the locks, writes the run's row and its shards, and goes to work.
    pub async fn start(self: &Arc<Self>, request: RunRequest) -> Result<RunHandle, StartError> {
        self.start_as(RunId(self.app.ids.uuid()), request, None).await
    }

    /// Starts a run for a tick of the schedule, of which each process of a group may know:
    /// the first of them starts it.
    pub async fn start_at(
        self: &Arc<Self>,
        request: RunRequest,
        tick: Option<Timestamp>,
    ) -> Result<RunHandle, StartError> {
        self.start_as(RunId(self.app.ids.uuid()), request, tick).await
    }

    /// As [`Self::start_at`], with an id that was chosen before.
    pub async fn start_as(
        self: &Arc<Self>,
        id: RunId,
        request: RunRequest,
        scheduled_for: Option<Timestamp>,
    ) -> Result<RunHandle, StartError> {
        let policies: Vec<PolicyName> = match &request.policy {
            Some(name) => vec![self.app.policy(Some(name))?.name.clone()],
            None => self.app.policies.keys().cloned().collect(),
        };
        let mut shards = Vec::new();
        for name in &policies {
            let policy = self.app.policy(Some(name))?;
            shards.extend(plan::shards_of_run(&self.app, policy, &request, &self.settings).await?);
        }
        let new = NewRun {
            id,
            request,
            policies: &policies,
            shards: &shards,
            scheduled_for,
            holder: self.holder,
            claims: self.settings.shards,
            lease: self.settings.lease,
        };
        // Before there is a row that the look-around could find: what is claimed for this
        // process is then worked on by it, and by nobody else first.
        let active = self.activate(id);
        let (run, claimed) = match self.app.db.runs().start(new, self.app.now()).await? {
            Started::Run(run, claimed) => (run, claimed),
            Started::Held(holder) => return Err(StartError::Held(holder)),
            Started::Taken => return Err(StartError::Taken),
        };
        if run.status == RunStatus::Running {
            self.work_on(active, run.clone(), claimed);
        } else {
            log_end(&Progress { run: run.clone(), findings: 0, shards: 0, shards_done: 0 });
        }
        Ok(RunHandle { run, reconciler: Arc::clone(self) })
    }

    /// Takes part in a run; `None` where there is none at work of that id.
    pub async fn join(self: &Arc<Self>, id: RunId) -> Option<RunHandle> {
        let run = match self.app.db.runs().find(id).await {
            Ok(run) => run.filter(|run| run.status == RunStatus::Running)?,
            Err(error) => {
                tracing::warn!(run = %id, error = &error as &dyn std::error::Error,
                    "the run was not read");
                return None;
            }
        };
        self.work_on(self.activate(id), run.clone(), Vec::new());
        Some(RunHandle { run, reconciler: Arc::clone(self) })
    }

    /// Ends a run, whichever processes work on it; they drop what they are at. `false`
    /// where no such run is at work.
    pub async fn cancel(&self, id: RunId) -> Result<bool, DbError> {
        let now = self.app.now();
        let Some(ended) = self.app.db.runs().cancel(id, "cancelled on request", now).await? else {
            return Ok(false);
        };
        log_end(&ended);
        self.changed.notify_waiters();
        Ok(true)
    }

    /// A place among those that work on a run; `None` where this process does already.
    fn activate(self: &Arc<Self>, run: RunId) -> Option<ActiveRun> {
        self.active_runs().insert(run).then(|| ActiveRun { reconciler: Arc::clone(self), run })
    }

    /// Works on a run in a task of its own, where there is a place.
    fn work_on(self: &Arc<Self>, active: Option<ActiveRun>, run: Run, claimed: Vec<RunShard>) {
        let Some(active) = active.filter(|_| !self.shutdown.is_cancelled()) else { return };
        let this = Arc::clone(self);
        let work = async move {
            ShardWorkers::new(this, run).work(claimed).await;
            drop(active);
        };
        self.tasks.spawn_on(work, &self.runtime);
    }

    /// Works in a task that this process does not end without.
    pub(super) fn see_through<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.tasks.spawn_on(work, &self.runtime)
    }

    fn active_runs(&self) -> MutexGuard<'_, BTreeSet<RunId>> {
        self.active_runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run that this process works on, as long as this lives.
struct ActiveRun {
    reconciler: Arc<Reconciler>,
    run: RunId,
}

impl Drop for ActiveRun {
    fn drop(&mut self) {
        self.reconciler.active_runs().remove(&self.run);
    }
}

/// The numbers of a run's end, as metrics.
fn meter(run: &Run) {
    let mode = run.request.mode.name();
    metrics::counter!(names::RECONCILE_RUNS, "mode" => mode,
        "trigger" => run.request.trigger.name(), "status" => run.status.name())
    .increment(1);
    if let Some(end) = run.finished_at {
        let took = (end - run.started_at).as_seconds_f64().max(0.0);
        metrics::histogram!(names::RECONCILE_DURATION, "mode" => mode).record(took);
    }
    for (kind, count) in run.counters.named() {
        metrics::counter!(names::RECONCILE_ITEMS, "mode" => mode, "kind" => kind).increment(count);
    }
}

/// The one line of a run's end, by whichever process ended it.
pub(super) fn log_end(ended: &Progress) {
    let Progress { run, findings, shards, .. } = ended;
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
    meter(run);
    tracing::info!(run = %run.id, mode = run.request.mode.name(), dry_run = run.request.dry_run,
        trigger = run.request.trigger.name(), status = run.status.name(), took_ms = took,
        listed, list_requests, head_requests, confirmed, rejected, expired, missing, orphans,
        foreign, overwritten, late, aborted_multipart, deleted, errors, findings, shards,
        error = run.error.as_deref(), "reconciliation ended");
}
