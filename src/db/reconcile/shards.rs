//! The shards of runs. A process claims a shard with a lease, by the database's clock. Only the
//! holder of the newest claim can write to the shard.
//!
//! Each claim increments the shard's fence (a fencing token). Each batch of a shard's work (rows,
//! deliveries, findings, cursor and counters) is one transaction that first checks that the shard
//! is open under the holder's fence, and writes nothing otherwise. So a process whose lease has
//! expired cannot overwrite the work of the next holder, and the committed work of a process that
//! died is neither repeated nor lost.
//!
//! Lock order, to avoid deadlocks: run, shard, uploads.

use std::time::Duration;

use entity::{reconcile_run as run, reconcile_shard as shard};
use sea_orm::sea_query::{Expr, ExprTrait as _, LockBehavior, LockType};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, Order, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait as _,
};
use uuid::Uuid;

use super::finish_shards::{End, ShardFinisher};
use super::shard_writes::{claim_one, held, lock_run, update_of, write_progress};

pub use super::finish_shards::Finished;
pub use super::shard_writes::ShardProgress;
use crate::db::Result;
use crate::db::engine::clock::{lease_end, time};
use crate::db::engine::pool::Engine;
use crate::db::uploads::{Change, Saved, Uploads};
use crate::domain::run::{RunShard, ShardStatus};
use crate::domain::{RunId, Timestamp, Upload};

/// The result of saving a batch.
#[derive(Debug)]
pub enum Batch {
    /// The whole batch is committed. Contains the uploads as they are committed.
    Saved(Vec<Upload>),
    /// Nothing is written: other writers have changed some of the uploads first. Contains the
    /// indexes of their changes.
    Raced(Vec<usize>),
    /// Nothing is written: another process holds the shard, or its run has ended.
    Lost,
}

/// The shards of reconciliation runs.
#[derive(Clone, Copy)]
pub struct Shards<'a> {
    pub(in crate::db) engine: &'a Engine,
    pub(in crate::db) uploads: Uploads<'a>,
    pub(in crate::db) finisher: &'a ShardFinisher,
}

impl Shards<'_> {
    /// Claims an open shard of a run that no process has leased and that does not wait for other
    /// shards.
    pub async fn claim(
        self,
        run: RunId,
        holder: Uuid,
        lease: Duration,
    ) -> Result<Option<RunShard>> {
        let open = shard::Entity::find()
            .filter(shard::Column::RunId.eq(run.0))
            .filter(shard::Column::Status.eq(ShardStatus::Open.name()))
            .order_by(shard::Column::Number, Order::Asc)
            .all(&self.engine.read)
            .await?;
        let now = time(&self.engine.write, Duration::ZERO).await?;
        claim_one(&self.engine.write, self.engine.is_postgres(), &open, now, (holder, lease)).await
    }

    /// Renews the lease of a shard; `false` if another process has claimed the shard, or if it has
    /// ended.
    pub async fn renew(self, shard: &RunShard, lease: Duration) -> Result<bool> {
        self.hold(&self.engine.write, shard, lease).await
    }

    /// Releases all shards of a process, so that others can claim them at once. On PostgreSQL it
    /// skips shards that another transaction has locked: two transactions that lock several shards
    /// in different orders can be a deadlock. A skipped shard stays leased until its lease expires.
    pub async fn release_all(self, holder: Uuid) -> Result<()> {
        let held = Condition::all()
            .add(shard::Column::Holder.eq(holder))
            .add(shard::Column::Status.eq(ShardStatus::Open.name()));
        let mut release = shard::Entity::update_many()
            .col_expr(
                shard::Column::ExpiresAt,
                lease_end(self.engine.is_postgres(), Duration::ZERO),
            )
            .filter(held.clone());
        if self.engine.is_postgres() {
            let key = [shard::Column::RunId, shard::Column::Number];
            let free = shard::Entity::find()
                .select_only()
                .columns(key)
                .filter(held)
                .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
                .into_query();
            release = release.filter(Expr::tuple(key.map(Expr::col)).in_subquery(free));
        }
        release.exec(&self.engine.write).await?;
        Ok(())
    }

    /// Saves a batch of a shard's work, all of it or nothing. `progress` returns the progress of
    /// the shard, given the saved uploads.
    pub async fn save(
        self,
        shard: &RunShard,
        lease: Duration,
        changes: Vec<Change<'_>>,
        now: Timestamp,
        progress: impl FnOnce(&[Upload]) -> ShardProgress,
    ) -> Result<Batch> {
        let txn = self.engine.begin().await?;
        if !self.hold(&txn, shard, lease).await? {
            txn.rollback().await?;
            return Ok(Batch::Lost);
        }
        let (saved, superseded) = self.uploads.save_in(&txn, changes, now).await?;
        let raced: Vec<usize> = (0..)
            .zip(&saved)
            .filter_map(|(i, saved)| match saved {
                Saved::Done(_) => None,
                Saved::Lost => Some(i),
            })
            .collect();
        if !raced.is_empty() {
            txn.rollback().await?;
            return Ok(Batch::Raced(raced));
        }
        let done: Vec<Upload> = saved
            .iter()
            .filter_map(|saved| match saved {
                Saved::Done(upload) => Some(upload.clone()),
                Saved::Lost => None,
            })
            .collect();
        let progress = progress(&done);
        write_progress(&txn, shard, &progress, update_of(shard)).await?;
        txn.commit().await?;
        self.uploads.publish_all(&saved, &superseded);
        Ok(Batch::Saved(done))
    }

    /// Takes a number of deletions from the run's budget, before anything is deleted. Returns how
    /// many are allowed, or `None` if another process holds the shard.
    pub async fn spend_deletions(
        self,
        shard: &RunShard,
        lease: Duration,
        requested: u64,
        budget: u64,
    ) -> Result<Option<u64>> {
        let txn = self.engine.begin().await?;
        let Some(run) = lock_run(&txn, shard.run).await? else {
            txn.rollback().await?;
            return Ok(None);
        };
        if !self.hold(&txn, shard, lease).await? {
            txn.rollback().await?;
            return Ok(None);
        }
        let spent = u64::try_from(run.deletions).unwrap_or_default();
        let granted = Ord::min(requested, budget.saturating_sub(spent));
        run::Entity::update_many()
            .col_expr(
                run::Column::Deletions,
                Expr::value(i64::try_from(spent + granted).unwrap_or(i64::MAX)),
            )
            .filter(run::Column::Id.eq(run.id))
            .exec(&txn)
            .await?;
        txn.commit().await?;
        Ok(Some(granted))
    }

    /// The number of deletions that a run has taken from its budget.
    pub async fn spent_deletions(self, run: RunId) -> Result<u64> {
        let row = run::Entity::find_by_id(run.0).one(&self.engine.read).await?;
        Ok(row.map_or(0, |row| u64::try_from(row.deletions).unwrap_or_default()))
    }

    /// Ends a shard. If it is the run's last shard, ends the run, else claims the next shard.
    /// Shards that end at the same time share a commit.
    pub async fn finish(
        self,
        shard: &RunShard,
        (status, error): (ShardStatus, Option<String>),
        progress: &ShardProgress,
        claim: (Uuid, Duration),
        now: Timestamp,
    ) -> Result<Finished> {
        let progress = ShardProgress {
            unverified: error.or_else(|| progress.unverified.clone()),
            ..progress.clone()
        };
        self.finisher.submit(End { shard: shard.clone(), status, progress, claim, now }).await
    }

    /// Finds the unfinished shard with this fence, locks its row, and renews its lease.
    async fn hold(
        self,
        connection: &impl ConnectionTrait,
        shard: &RunShard,
        lease: Duration,
    ) -> Result<bool> {
        let held = held(shard, self.engine.is_postgres(), lease).exec(connection).await?;
        Ok(held.rows_affected == 1)
    }
}
