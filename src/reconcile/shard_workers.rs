//! The workers of one process on one run. They claim free shards, renew their leases while they
//! work, and continue until the run has ended, whichever process ends it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::moving::Transfers;
use super::progress::{Lease, ShardProgress};
use super::report::Report;
use super::run::Reconciler;
use super::safety_limits::{LocationSession, SafetyLimits};
use super::summary::log_end;
use super::worker::{Target, WorkError, Worker};
use crate::app::AppError;
use crate::db::DbError;
use crate::db::reconcile::shards::Finished;
use crate::domain::run::{Run, RunShard, ShardStatus};
use crate::domain::{LocationNumber, PolicyName};
use crate::telemetry::chain;

/// A lease is renewed at least this often. The end of a run is noticed within the same time.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The interval at which a process looks for shards whose lease has expired or was released.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The number of claims after which a shard fails, because it probably crashes each process that
/// works on it.
const MAX_CLAIMS: i64 = 100;

/// A run that this process works on.
pub(super) struct ShardWorkers {
    reconciler: Arc<Reconciler>,
    run: Run,
    sessions: Mutex<BTreeMap<(PolicyName, LocationNumber), Arc<LocationSession>>>,
    transfers: Transfers,
}

impl ShardWorkers {
    pub(super) fn new(reconciler: Arc<Reconciler>, run: Run) -> Arc<Self> {
        let transfers = Transfers::of(&run);
        Arc::new(Self { reconciler, run, sessions: Mutex::default(), transfers })
    }

    /// Works until the run has ended or this process shuts down. `claimed` are the shards that this
    /// process already holds.
    pub(super) async fn work(self: Arc<Self>, claimed: Vec<RunShard>) {
        let mut shards = JoinSet::new();
        let reconciler = &self.reconciler;
        for shard in claimed {
            shards.spawn_on(Arc::clone(&self).work_on_shards(shard), &reconciler.runtime);
        }
        loop {
            let changed = reconciler.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if shards.is_empty() && self.has_ended().await {
                return;
            }
            self.claim(&mut shards).await;
            let poll = tokio::time::sleep(POLL_INTERVAL);
            let mut poll = std::pin::pin!(poll);
            loop {
                tokio::select! {
                    // A worker ends if there is no shard to claim, or if it lost its shard. A lost
                    // shard is claimed again by polling.
                    Some(_) = shards.join_next() => if shards.is_empty() { break },
                    () = &mut changed => break,
                    () = &mut poll => break,
                    () = reconciler.shutdown.cancelled() => return shards.shutdown().await,
                }
            }
        }
    }

    async fn claim(self: &Arc<Self>, shards: &mut JoinSet<()>) {
        let Reconciler { app, settings, holder, runtime, .. } = &*self.reconciler;
        while shards.len() < settings.shards {
            match app.db.shards().claim(self.run.id, *holder, settings.lease).await {
                Ok(Some(shard)) => {
                    shards.spawn_on(Arc::clone(self).work_on_shards(shard), runtime);
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(run = %self.run.id, error = &error as &dyn std::error::Error,
                        "no shard was claimed; the next poll tries again");
                    return;
                }
            }
        }
    }

    async fn has_ended(&self) -> bool {
        let runs = self.reconciler.app.db.runs();
        runs.is_running(self.run.id).await.is_ok_and(|running| running != Some(true))
    }

    /// Works on one shard after another, as long as there is a shard to claim.
    async fn work_on_shards(self: Arc<Self>, shard: RunShard) {
        let mut next = Some(shard);
        while let Some(shard) = next {
            next = self.work_on(shard).await;
        }
    }

    /// Works on a shard, records how it ended, and returns the next shard.
    async fn work_on(&self, shard: RunShard) -> Option<RunShard> {
        tracing::debug!(run = %shard.run, shard = shard.number, fence = shard.fence,
            holder = %self.reconciler.holder, cursor = shard.cursor, "shard claimed");
        let report = Report::of(&shard, self.run.request.mode);
        let lease = Lease::new(self.reconciler.settings.lease);
        let done = tokio::select! {
            done = self.reconcile(&shard, &report, &lease) => done,
            () = self.keep_lease(&shard, &lease) => Err(WorkError::LostLease),
        };
        let (status, error) = match done {
            Ok(ShardStatus::Unverified) => {
                (ShardStatus::Unverified, report.tally().unverified().map(str::to_owned))
            }
            Ok(status) => (status, None),
            Err(WorkError::LostLease) => {
                tracing::debug!(run = %shard.run, shard = shard.number, fence = shard.fence,
                    "shard lost");
                return None;
            }
            Err(WorkError::Stopped(why)) => (ShardStatus::Stopped, Some(why)),
            Err(error) => {
                tracing::warn!(run = %shard.run, shard = shard.number, policy = %shard.policy,
                    error = &error as &dyn std::error::Error, "a shard was not reconciled");
                (ShardStatus::Failed, Some(chain(&error)))
            }
        };
        // No task renews the lease any more, and writing the end may wait for a database
        // connection. So a lease that is not new is renewed first.
        if lease.age() >= lease.length / 3
            && let Err(error) = self.reconciler.app.db.shards().renew(&shard, lease.length).await
        {
            tracing::warn!(run = %shard.run, shard = shard.number,
                error = &error as &dyn std::error::Error, "a lease was not renewed");
        }
        self.finish(&shard, &report, (status, error)).await
    }

    async fn reconcile(
        &self,
        shard: &RunShard,
        report: &Report,
        lease: &Lease,
    ) -> Result<ShardStatus, WorkError> {
        let Reconciler { app, settings, throttle, .. } = &*self.reconciler;
        if shard.fence > MAX_CLAIMS {
            return Err(WorkError::Abandoned(MAX_CLAIMS));
        }
        let unconfigured = || AppError::Unconfigured(format!("policies.{}", shard.policy));
        let policy = app.policies.get(&shard.policy).ok_or_else(unconfigured)?;
        let location = app.location(&shard.policy, shard.location).await?;
        let target = Target { app, policy, location: &location, store: app.store_at(&location)? };
        let (run, session) = (&self.run, &*self.session(shard));
        let limits = SafetyLimits {
            target,
            request: &run.request,
            shard,
            session,
            max_deletions: settings.max_deletions,
            damage: settings.damage,
        };
        let progress = ShardProgress { app, run, shard, report, lease };
        let transfers = &self.transfers;
        let worker = Worker { target, settings, throttle, transfers, limits, progress };
        Box::pin(worker.work()).await
    }

    fn session(&self, shard: &RunShard) -> Arc<LocationSession> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(sessions.entry((shard.policy.clone(), shard.location)).or_default())
    }

    /// Renews the lease, and returns when the lease is lost or the run has ended. The caller then
    /// drops the work. That is safe, because each batch of the work is one transaction.
    async fn keep_lease(&self, shard: &RunShard, lease: &Lease) {
        let beat = HEARTBEAT.min(lease.length / 3);
        loop {
            tokio::time::sleep(beat.saturating_sub(lease.age())).await;
            // A batch that was saved in the meantime has renewed the lease.
            if lease.age() < beat {
                continue;
            }
            match self.reconciler.app.db.shards().renew(shard, lease.length).await {
                Ok(true) => lease.renewed(),
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(run = %shard.run, shard = shard.number,
                        error = &error as &dyn std::error::Error, "a lease was not renewed");
                    if lease.age() >= lease.length {
                        return;
                    }
                    tokio::time::sleep(beat).await;
                }
            }
        }
    }

    async fn finish(
        &self,
        shard: &RunShard,
        report: &Report,
        end: (ShardStatus, Option<String>),
    ) -> Option<RunShard> {
        let Reconciler { app, settings, holder, .. } = &*self.reconciler;
        let progress = report.tally().progress(None);
        let claim = (*holder, settings.lease);
        let (app, ended) = (Arc::clone(app), shard.clone());
        // This completes even if the process shuts down. The shutdown then releases the claimed
        // shard.
        let finished = self.reconciler.run_to_end(async move {
            app.db.shards().finish(&ended, end, &progress, claim, app.now()).await
        });
        match finished.await.unwrap_or(Err(DbError::Busy)) {
            Ok(Finished::Run(ended)) => {
                log_end(&ended);
                self.reconciler.changed.notify_waiters();
                None
            }
            Ok(Finished::Shard(next)) => next,
            Ok(Finished::Lost) => None,
            Err(error) => {
                tracing::error!(run = %shard.run, shard = shard.number,
                    error = &error as &dyn std::error::Error,
                    "the end of a shard was not written; another process continues the shard when \
                    its lease has expired");
                None
            }
        }
    }
}
