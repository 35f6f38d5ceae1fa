//! The workers of one process on one run: they claim shards that nobody holds, keep their
//! leases while they work, and go on until the run has ended, whoever ends it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::report::Report;
use super::run::{Reconciler, log_end};
use super::worker::{Alive, Session, WorkError, Worker};
use crate::app::AppError;
use crate::db::DbError;
use crate::db::reconcile::shards::Finished;
use crate::domain::PolicyName;
use crate::domain::run::{Run, RunShard, ShardStatus};
use crate::telemetry::chain;

/// How often a lease is renewed, at least; also how soon it is seen that a run was ended.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How often shards are asked for that another process left.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// A shard that was left so often takes its processes down with it.
const MAX_CLAIMS: i64 = 100;

/// A run as this process works on it.
pub(super) struct ShardWorkers {
    reconciler: Arc<Reconciler>,
    run: Run,
    sessions: Mutex<BTreeMap<PolicyName, Arc<Session>>>,
}

impl ShardWorkers {
    pub(super) fn new(reconciler: Arc<Reconciler>, run: Run) -> Arc<Self> {
        Arc::new(Self { reconciler, run, sessions: Mutex::default() })
    }

    /// Works until the run has ended, or this process is to end. `claimed` are shards that
    /// it holds already.
    pub(super) async fn work(self: Arc<Self>, claimed: Vec<RunShard>) {
        let mut shards = JoinSet::new();
        let reconciler = &self.reconciler;
        for shard in claimed {
            shards.spawn_on(Arc::clone(&self).one(shard), &reconciler.runtime);
        }
        loop {
            let changed = reconciler.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if shards.is_empty() && self.has_ended().await {
                return;
            }
            self.claim(&mut shards).await;
            let look_around = tokio::time::sleep(LOOK_AROUND);
            let mut look_around = std::pin::pin!(look_around);
            loop {
                tokio::select! {
                    // Where one ends and gives no next one, there was none to claim; or it was
                    // lost, and whose shards are left is seen by looking around.
                    Some(_) = shards.join_next() => if shards.is_empty() { break },
                    () = &mut changed => break,
                    () = &mut look_around => break,
                    () = reconciler.shutdown.cancelled() => return shards.shutdown().await,
                }
            }
        }
    }

    async fn claim(self: &Arc<Self>, shards: &mut JoinSet<()>) {
        let reconciler = &self.reconciler;
        let settings = &reconciler.settings;
        while shards.len() < settings.shards {
            let holder = reconciler.holder;
            match reconciler.app.db.shards().claim(self.run.id, holder, settings.lease).await {
                Ok(Some(shard)) => {
                    shards.spawn_on(Arc::clone(self).one(shard), &reconciler.runtime);
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(run = %self.run.id, error = &error as &dyn std::error::Error,
                        "no shard was claimed; asked again soon");
                    return;
                }
            }
        }
    }

    async fn has_ended(&self) -> bool {
        self.reconciler
            .app
            .db
            .runs()
            .is_running(self.run.id)
            .await
            .is_ok_and(|running| running != Some(true))
    }

    /// Works on shards one after the other, as long as there is one to claim.
    async fn one(self: Arc<Self>, shard: RunShard) {
        let mut next = Some(shard);
        while let Some(shard) = next {
            next = self.shard(shard).await;
        }
    }

    /// Works on one shard, ends it, and gives the next one.
    async fn shard(&self, shard: RunShard) -> Option<RunShard> {
        tracing::debug!(run = %shard.run, shard = shard.number, fence = shard.fence,
            holder = %self.reconciler.holder, cursor = shard.cursor, "shard claimed");
        let (report, alive) = (Report::of(&shard), Alive::new());
        let done = tokio::select! {
            done = self.done(&shard, &report, &alive) => done,
            () = self.keep(&shard, &alive) => Err(WorkError::LostLease),
        };
        let (status, error) = match done {
            Ok(ShardStatus::Doubted) => {
                (ShardStatus::Doubted, report.tally().doubts().map(str::to_owned))
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
        // Nobody renews it while its end is written, which waits for a connection.
        if alive.since() >= self.lease() / 3
            && let Err(error) = self.reconciler.app.db.shards().renew(&shard, self.lease()).await
        {
            tracing::warn!(run = %shard.run, shard = shard.number,
                error = &error as &dyn std::error::Error, "a lease was not renewed");
        }
        self.finish(&shard, &report, (status, error)).await
    }

    async fn done(
        &self,
        shard: &RunShard,
        report: &Report,
        alive: &Alive,
    ) -> Result<ShardStatus, WorkError> {
        let Reconciler { app, settings, throttle, .. } = &*self.reconciler;
        if shard.fence > MAX_CLAIMS {
            return Err(WorkError::Left(MAX_CLAIMS));
        }
        let gone = || AppError::Unconfigured(format!("policies.{}", shard.policy));
        let policy = app.policies.get(&shard.policy).ok_or_else(gone)?;
        let store = app.store_of(policy)?;
        let session = &*self.session(&shard.policy);
        let run = &self.run;
        let worker =
            Worker { app, policy, store, run, shard, settings, report, throttle, session, alive };
        Box::pin(worker.work()).await
    }

    fn lease(&self) -> Duration {
        self.reconciler.settings.lease
    }

    fn session(&self, policy: &PolicyName) -> Arc<Session> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(sessions.entry(policy.clone()).or_default())
    }

    /// Renews the lease until it is lost or the run has ended. The work is dropped then:
    /// each of its batches is a transaction of its own.
    async fn keep(&self, shard: &RunShard, alive: &Alive) {
        let lease = self.lease();
        let beat = HEARTBEAT.min(lease / 3);
        loop {
            tokio::time::sleep(beat.saturating_sub(alive.since())).await;
            // A batch that was saved meanwhile has renewed it.
            if alive.since() < beat {
                continue;
            }
            match self.reconciler.app.db.shards().renew(shard, lease).await {
                Ok(true) => alive.renewed(),
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(run = %shard.run, shard = shard.number,
                        error = &error as &dyn std::error::Error, "a lease was not renewed");
                    if alive.since() >= lease {
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
        let mark = report.tally().mark(None);
        let claim = (*holder, settings.lease);
        let (app, ended) = (Arc::clone(app), shard.clone());
        // Also when this process is to end meanwhile: it then lets go what is claimed here.
        let finished = self.reconciler.see_through(async move {
            app.db.shards().finish(&ended, end, &mark, claim, app.now()).await
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
                    "a shard's end is not written; it is done again when its lease has lapsed");
                None
            }
        }
    }
}
