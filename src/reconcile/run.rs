//! The runs of a process: starts them, joins them and waits for them.

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
use super::summary::log_end;
use super::throttle::Throttle;
use super::{ReconcileSettings, plan};
use crate::app::{App, AppError};
use crate::db::DbError;
use crate::db::reconcile::runs::{NewRun, Started};
use crate::domain::run::{Progress, Run, RunRequest, RunShard, RunStatus};
use crate::domain::{PolicyName, RunId, Timestamp};

/// The interval at which a process looks for runs that it can join.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The time within which a waiting caller notices that another process ended its run.
const WAIT_INTERVAL: Duration = Duration::from_millis(500);

/// Why a run did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A run of the same mode and policy has not ended.
    #[error("run {0} of the same mode and policy has not ended")]
    Held(RunId),
    /// Another process started the run for the same tick of the schedule.
    #[error("another process already started the run that is scheduled for this time")]
    Taken,
    /// The request is invalid, or the database failed.
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
    /// The settings of runs.
    pub settings: ReconcileSettings,
    /// The runtime that runs work on. It outlives the runtime of a request.
    pub(super) runtime: Handle,
    pub(super) throttle: Throttle,
    pub(super) shutdown: CancellationToken,
    /// Notified when a run ends in this process.
    pub(super) changed: Notify,
    /// The id of this process as a holder of shards.
    pub(super) holder: Uuid,
    tasks: TaskTracker,
    /// The runs that this process works on.
    active_runs: Mutex<BTreeSet<RunId>>,
}

/// A run that can be waited for.
pub struct RunHandle {
    /// The run's state at its start.
    pub run: Run,
    reconciler: Arc<Reconciler>,
}

impl RunHandle {
    /// Waits until the run has ended, whichever process ends it, and returns it. Returns it
    /// earlier if this process shuts down.
    pub async fn wait(self) -> Run {
        let Self { mut run, reconciler } = self;
        loop {
            let changed = reconciler.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            match reconciler.app.db.runs().find(run.id).await {
                Ok(Some(now)) => run = now,
                // The row is gone, so the run's end is unknown.
                Ok(None) => return run,
                Err(error) => tracing::warn!(run = %run.id,
                    error = &error as &dyn std::error::Error, "the run could not be read"),
            }
            if run.status != RunStatus::Running {
                return run;
            }
            tokio::select! {
                () = &mut changed => {}
                () = tokio::time::sleep(WAIT_INTERVAL) => {}
                () = reconciler.shutdown.cancelled() => return run,
            }
        }
    }
}

impl Reconciler {
    /// A reconciler whose runs work on the current runtime.
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

    /// Works on all runs until this process shuts down, including runs that another process started
    /// before it crashed.
    pub fn take_part(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let poll = async move {
            loop {
                match this.app.db.runs().list_running().await {
                    Ok(runs) => {
                        for run in runs {
                            this.join(run).await;
                        }
                    }
                    Err(error) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "runs to join could not be read; the next poll tries again"
                    ),
                }
                tokio::select! {
                    () = tokio::time::sleep(POLL_INTERVAL) => {}
                    () = this.shutdown.cancelled() => return,
                }
            }
        };
        self.tasks.spawn_on(poll, &self.runtime);
    }

    /// Stops the work on all runs and releases their shards, so that other processes, or this
    /// one after a restart, can continue at once.
    pub async fn shut_down(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if let Err(error) = self.app.db.shards().release_all(self.holder).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "shards were not released; their leases expire"
            );
        }
    }

    /// The id of this process as a holder of shards.
    pub fn holder(&self) -> Uuid {
        self.holder
    }

    /// Whether this process is shutting down.
    pub fn is_ending(&self) -> bool {
        self.shutdown.is_cancelled()
    }

    /// Writes the run's row and its shards, and starts the work. The run locks its mode for each of
    /// its policies.
    ///
    /// # Errors
    ///
    /// If a run of the same mode and policy has not ended, or the database fails.
    pub async fn start(self: &Arc<Self>, request: RunRequest) -> Result<RunHandle, StartError> {
        self.start_as(RunId(self.app.ids.uuid()), request, None).await
    }

    /// Starts a run for a tick of the schedule. Several processes may have the same schedule:
    /// the first of them starts the run.
    ///
    /// # Errors
    /// As [`Self::start`], and [`StartError::Taken`] if another process was first.
    pub async fn start_at(
        self: &Arc<Self>,
        request: RunRequest,
        tick: Option<Timestamp>,
    ) -> Result<RunHandle, StartError> {
        self.start_as(RunId(self.app.ids.uuid()), request, tick).await
    }

    /// Like [`Self::start_at`], with an id that the caller chose.
    ///
    /// # Errors
    /// As [`Self::start_at`].
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
        // Registered before polling can find the row, so that the claimed shards are worked on at
        // once.
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

    /// Joins a run. Returns `None` if there is no such run, or if it has ended.
    pub async fn join(self: &Arc<Self>, id: RunId) -> Option<RunHandle> {
        let run = match self.app.db.runs().find(id).await {
            Ok(run) => run.filter(|run| run.status == RunStatus::Running)?,
            Err(error) => {
                tracing::warn!(run = %id, error = &error as &dyn std::error::Error,
                    "the run could not be read");
                return None;
            }
        };
        self.work_on(self.activate(id), run.clone(), Vec::new());
        Some(RunHandle { run, reconciler: Arc::clone(self) })
    }

    /// Marks a run as worked on by this process. Returns `None` if it is already marked.
    fn activate(self: &Arc<Self>, run: RunId) -> Option<ActiveRun> {
        self.active_runs().insert(run).then(|| ActiveRun { reconciler: Arc::clone(self), run })
    }

    /// Works on a run in a separate task, unless this process already does.
    fn work_on(self: &Arc<Self>, active: Option<ActiveRun>, run: Run, claimed: Vec<RunShard>) {
        let Some(active) = active.filter(|_| !self.shutdown.is_cancelled()) else { return };
        let this = Arc::clone(self);
        let work = async move {
            ShardWorkers::new(this, run).work(claimed).await;
            drop(active);
        };
        self.tasks.spawn_on(work, &self.runtime);
    }

    /// Runs a task to its end, even if this process shuts down in the meantime.
    pub(super) fn run_to_end<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.tasks.spawn_on(work, &self.runtime)
    }

    fn active_runs(&self) -> MutexGuard<'_, BTreeSet<RunId>> {
        self.active_runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks a run as worked on by this process until it is dropped.
struct ActiveRun {
    reconciler: Arc<Reconciler>,
    run: RunId,
}

impl Drop for ActiveRun {
    fn drop(&mut self) {
        self.reconciler.active_runs().remove(&self.run);
    }
}
