//! What happens by itself. The scheduler only triggers: each job is a plain async
//! function that the command line and the tests call too.
//!
//! To add a job: an async function in a file here, a schedule in `config::reconcile`, a
//! line in [`Scheduler::start`].

pub mod retention;

use std::sync::Arc;

use chrono::SubsecRound as _;
use croner::parser::{CronParser, Seconds};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::domain::Timestamp;
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
            let (reconciler, cron_of) = (Arc::clone(reconciler), schedule.clone());
            let job = Job::new_async(schedule.as_str(), move |_, _| {
                let reconciler = Arc::clone(&reconciler);
                let tick = tick(&cron_of, reconciler.app.now());
                Box::pin(async move {
                    reconcile_at(&reconciler, mode, Trigger::Schedule, tick).await;
                })
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

/// The tick of a schedule that is due now: its own whole second, which is the same for
/// every process of a group, however late its timer is.
fn tick(schedule: &str, now: Timestamp) -> Option<Timestamp> {
    let parser = CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build();
    let tick = parser.parse(schedule).ok()?.find_previous_occurrence(&now, true).ok()?;
    Some(tick.trunc_subsecs(0))
}

/// Reconciles all policies, to the end. Where another process is at it already, that is
/// as good.
pub async fn reconcile(reconciler: &Arc<Reconciler>, mode: Mode, trigger: Trigger) {
    reconcile_at(reconciler, mode, trigger, None).await;
}

async fn reconcile_at(
    reconciler: &Arc<Reconciler>,
    mode: Mode,
    trigger: Trigger,
    tick: Option<Timestamp>,
) {
    let request = RunRequest { mode, policy: None, dry_run: false, force: false, trigger };
    match reconciler.start_at(request, tick).await {
        // How the run ended is on its row and in the log.
        Ok(handle) => drop(handle.wait().await),
        Err(StartError::Held(run)) => {
            tracing::debug!(%run, mode = mode.name(), "not started: one is at work");
        }
        Err(StartError::Taken) => {
            tracing::debug!(mode = mode.name(), "not started: another process did");
        }
        Err(error) => tracing::error!(
            mode = mode.name(),
            error = &error as &dyn std::error::Error,
            "reconciliation did not start"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_timer_is_still_of_its_own_tick() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        for (schedule, now, expected) in [
            ("* * * * * *", "2026-01-01T00:00:07.900Z", "2026-01-01T00:00:07Z"),
            ("0 * * * * *", "2026-01-01T00:05:00Z", "2026-01-01T00:05:00Z"),
            ("0 * * * * *", "2026-01-01T00:05:03.250Z", "2026-01-01T00:05:00Z"),
            ("0 0 3 * * *", "2026-01-02T02:59:59.999Z", "2026-01-01T03:00:00Z"),
        ] {
            assert_eq!(tick(schedule, at(now)), Some(at(expected)), "{schedule} at {now}");
        }
        assert_eq!(tick("never", at("2026-01-01T00:00:00Z")), None);
    }
}
