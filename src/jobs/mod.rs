//! What happens by itself. The scheduler only triggers: each job is a plain async
//! function that the command line and the tests call too.
//!
//! To add a job: an async function in a file here, a schedule in `config::reconcile`, a
//! line in [`Scheduler::start`].

pub mod retention;

use std::sync::Arc;

use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::domain::run::{Mode, RunRequest, Trigger};
use crate::reconcile::{Reconciler, StartError};
use retention::Retention;

/// Every hour, beside the busy full hour: little falls due at a time.
const RETENTION_SCHEDULE: &str = "0 17 * * * *";

/// When the jobs run: cron with seconds, in UTC; `None` is never.
#[derive(Debug, Default, Clone)]
pub struct Schedules {
    /// Incremental reconciliation.
    pub incremental: Option<String>,
    /// The audit.
    pub audit: Option<String>,
    /// What is kept for how long; `None` keeps all.
    pub retention: Option<Retention>,
}

/// The running scheduler.
pub struct Scheduler(JobScheduler);

impl Scheduler {
    /// Schedules the jobs.
    pub async fn start(
        reconciler: &Arc<Reconciler>,
        schedules: &Schedules,
    ) -> Result<Self, JobSchedulerError> {
        let cron = JobScheduler::new().await?;
        for (mode, schedule) in
            [(Mode::Incremental, &schedules.incremental), (Mode::Audit, &schedules.audit)]
        {
            let Some(schedule) = schedule else { continue };
            let reconciler = Arc::clone(reconciler);
            let job = Job::new_async(schedule.as_str(), move |_, _| {
                let reconciler = Arc::clone(&reconciler);
                Box::pin(async move { reconcile(&reconciler, mode, Trigger::Schedule).await })
            })?;
            cron.add(job).await?;
        }
        if let Some(retention) = schedules.retention {
            let reconciler = Arc::clone(reconciler);
            let job = Job::new_async(RETENTION_SCHEDULE, move |_, _| {
                let reconciler = Arc::clone(&reconciler);
                Box::pin(async move { retention::prune(&reconciler.app, retention).await })
            })?;
            cron.add(job).await?;
        }
        cron.start().await?;
        Ok(Self(cron))
    }

    /// Triggers nothing more.
    pub async fn stop(mut self) -> Result<(), JobSchedulerError> {
        self.0.shutdown().await
    }
}

/// Reconciles all policies, to the end. Where another process is at it already, that is
/// as good.
pub async fn reconcile(reconciler: &Arc<Reconciler>, mode: Mode, trigger: Trigger) {
    let request = RunRequest { mode, policy: None, dry_run: false, force: false, trigger };
    match reconciler.start(request).await {
        // How the run ended is on its row and in the log.
        Ok(handle) => drop(handle.wait().await),
        Err(StartError::Held(run)) => {
            tracing::debug!(%run, mode = mode.name(), "not started: one is at work");
        }
        Err(error) => tracing::error!(
            mode = mode.name(),
            error = &error as &dyn std::error::Error,
            "reconciliation did not start"
        ),
    }
}
