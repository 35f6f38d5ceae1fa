//! Triggers the jobs that have a cron schedule. Each job is a `tick` of a struct in a file beside
//! this one.

use std::sync::Arc;

use chrono::SubsecRound as _;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use super::reconciliation::Reconciliation;
use super::retention::RetentionJob;
use crate::app::retention::Retention;
use crate::config::cron_parser;
use crate::domain::Timestamp;
use crate::domain::run::{Mode, Trigger};
use crate::reconcile::Reconciler;

/// At minute 17 of every hour. Other jobs usually run at the full hour.
const RETENTION_SCHEDULE: &str = "0 17 * * * *";

/// The schedules of the jobs: cron expressions with seconds, in UTC; `None` means never.
#[derive(Debug, Default, Clone)]
pub struct Schedules {
    /// Incremental reconciliation.
    pub incremental: Option<String>,
    /// The audit.
    pub audit: Option<String>,
    /// How long old rows are kept; `None` means for ever.
    pub retention: Option<Retention>,
}

/// The running scheduler.
pub struct Scheduler(JobScheduler);

impl Scheduler {
    /// Starts to trigger the jobs.
    pub async fn start(
        reconciler: &Arc<Reconciler>,
        schedules: &Schedules,
    ) -> Result<Self, JobSchedulerError> {
        let jobs = JobScheduler::new().await?;
        for (mode, schedule) in
            [(Mode::Incremental, &schedules.incremental), (Mode::Audit, &schedules.audit)]
        {
            let Some(schedule) = schedule.clone() else { continue };
            let job = Arc::new(Reconciliation::new(Arc::clone(reconciler), mode));
            let app = Arc::clone(&reconciler.app);
            let trigger = Job::new_async(schedule.clone().as_str(), move |_, _| {
                let job = Arc::clone(&job);
                let scheduled_for = scheduled_time(&schedule, app.now());
                Box::pin(async move { job.tick(Trigger::Schedule, scheduled_for).await })
            })?;
            jobs.add(trigger).await?;
        }
        if let Some(retention) = schedules.retention {
            let job = Arc::new(RetentionJob::new(Arc::clone(&reconciler.app), retention));
            let trigger = Job::new_async(RETENTION_SCHEDULE, move |_, _| {
                let job = Arc::clone(&job);
                Box::pin(async move { job.tick().await })
            })?;
            jobs.add(trigger).await?;
        }
        jobs.start().await?;
        Ok(Self(jobs))
    }

    /// Stops triggering jobs.
    pub async fn stop(mut self) -> Result<(), JobSchedulerError> {
        self.0.shutdown().await
    }
}

/// The scheduled time that is due now. It is a whole second, and it is the same in every process
/// even if the timer of a process is late. With it, all processes together start only one run.
fn scheduled_time(schedule: &str, now: Timestamp) -> Option<Timestamp> {
    let time = cron_parser().parse(schedule).ok()?.find_previous_occurrence(&now, true).ok()?;
    Some(time.trunc_subsecs(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_timer_belongs_to_the_time_that_it_was_scheduled_for() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (schedule, now, expected) in [
            ("* * * * * *", "2026-01-01T00:00:07.900Z", "2026-01-01T00:00:07Z"),
            ("0 * * * * *", "2026-01-01T00:05:00Z", "2026-01-01T00:05:00Z"),
            ("0 * * * * *", "2026-01-01T00:05:03.250Z", "2026-01-01T00:05:00Z"),
            ("0 0 3 * * *", "2026-01-02T02:59:59.999Z", "2026-01-01T03:00:00Z"),
        ] {
            assert_eq!(
                scheduled_time(schedule, at(now)),
                Some(at(expected)),
                "{schedule} at {now}"
            );
        }
        assert_eq!(scheduled_time("never", at("2026-01-01T00:00:00Z")), None);
    }
}
