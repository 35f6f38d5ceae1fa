//! Background loops: work that no HTTP request triggers.
//!
//! All workers have the same shape. `start` spawns the loop, `tick` does one round and can be
//! called by tests, `stop` ends the loop. The loops decide nothing: a round calls a use case of
//! [`crate::app`] or a run of [`crate::reconcile`]. [`scheduler`] triggers the jobs that have a
//! cron schedule; [`runner`] repeats the ticks of the others.
//!
//! To add a worker that runs by itself: a file here with a struct that implements
//! [`runner::Worker`], a field of [`Workers`], and a line in [`Workers::start`] and
//! [`Workers::stop`]. To add a scheduled job: a file here with a struct that has a `tick`, a
//! schedule in `config::reconcile`, and a line in [`scheduler::Scheduler::start`].
//!
//! No worker retries failed aborts of multipart uploads. Reconciliation runs do this, because a run
//! checks the bucket first, and has a throttle and a limit of deletions.

pub mod bucket_check;
pub mod bucket_events;
pub mod ended_urls;
pub mod inspections;
pub mod reconciliation;
pub mod retention;
pub mod runner;
pub mod scheduler;
pub mod store_checks;
pub mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use tokio_cron_scheduler::JobSchedulerError;

use crate::app::webhooks::Endpoint;
use crate::domain::run::{Mode, Trigger};
use crate::net::OutboundClient;
use crate::reconcile::Reconciler;
use crate::storage::queue::Queue;
use bucket_check::BucketCheck;
use bucket_events::BucketEvents;
use ended_urls::EndedUrls;
use inspections::InspectionWorker;
use reconciliation::Reconciliation;
use runner::Running;
use scheduler::{Scheduler, Schedules};
use store_checks::StoreChecks;
use webhooks::Dispatcher;

/// Which workers run.
pub struct WorkerSettings {
    /// When the scheduled jobs run.
    pub schedules: Schedules,
    /// Whether an incremental run starts together with the workers.
    pub reconcile_at_start: bool,
    /// The endpoints of webhooks.
    pub endpoints: Vec<Endpoint>,
    /// Sends the webhooks.
    pub client: OutboundClient,
    /// The queue of bucket events, and how many tasks poll it.
    pub bucket_events: Option<(Arc<dyn Queue>, usize)>,
}

/// The running workers of a process.
pub struct Workers {
    reconciler: Arc<Reconciler>,
    scheduler: Scheduler,
    webhooks: Running,
    inspections: Running,
    bucket_events: Running,
    bucket_check: Running,
    store_checks: Running,
    ended_urls: Running,
}

impl Workers {
    /// Starts all workers.
    pub async fn start(
        reconciler: &Arc<Reconciler>,
        settings: WorkerSettings,
    ) -> Result<Self, JobSchedulerError> {
        let WorkerSettings { schedules, reconcile_at_start, endpoints, client, bucket_events } =
            settings;
        let app = &reconciler.app;
        let scheduler = Scheduler::start(reconciler, &schedules).await?;
        reconciler.take_part();
        let webhooks = Dispatcher::start(app, Arc::new(client), endpoints);
        let inspections = InspectionWorker::start(app);
        let bucket_events = match bucket_events {
            Some((queue, tasks)) => BucketEvents::new(Arc::clone(app), queue).start(tasks),
            None => Running::new(),
        };
        let bucket_check = BucketCheck::start(app);
        let store_checks = StoreChecks::start(app);
        let ended_urls = EndedUrls::start(app);
        if reconcile_at_start {
            let job = Reconciliation::new(Arc::clone(reconciler), Mode::Incremental);
            tokio::spawn(async move { job.tick(Trigger::Startup, None).await });
        }
        Ok(Self {
            reconciler: Arc::clone(reconciler),
            scheduler,
            webhooks,
            inspections,
            bucket_events,
            bucket_check,
            store_checks,
            ended_urls,
        })
    }

    /// Stops all workers. Waits up to `patience` for work in progress, such as received bucket
    /// events. Unfinished runs are continued by other processes, or after the next start.
    pub async fn stop(self, patience: Duration) {
        let Self {
            reconciler,
            scheduler,
            webhooks,
            inspections,
            bucket_events,
            bucket_check,
            store_checks,
            ended_urls,
        } = self;
        if let Err(error) = scheduler.stop().await {
            tracing::warn!(%error, "the scheduler did not stop");
        }
        tokio::join!(
            reconciler.shut_down(),
            webhooks.stop(patience),
            inspections.stop(patience),
            bucket_events.stop(patience),
            bucket_check.stop(patience),
            store_checks.stop(patience),
            ended_urls.stop(patience),
        );
    }
}
