//! The shards of runs: claimed for a while by the database's clock, and written only by
//! who holds the newest claim.
//!
//! Each claim raises the shard's fence. All that a shard's work writes (rows, news,
//! findings, cursor and counters) is one transaction that first finds the shard open under
//! its own fence; where it does not, nothing of it is written. So a process that was
//! silent for too long can't write over its successor, and what was written before a
//! process died is neither done again nor left out.
//!
//! Lock order, so that no two transactions wait for each other: run, shard, uploads.

use std::time::Duration;

use entity::{reconcile_run as run, reconcile_shard as shard};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, Order, QueryFilter, QueryOrder,
    UpdateMany,
};
use uuid::Uuid;

use super::finish_shards::End;
use super::shard_row::read_shard;
use super::{findings, missing_candidates};
use crate::db::engine::clock::{lease_end, time};
use crate::db::uploads::{Change, Saved};
use crate::db::{Db, Result};
use crate::domain::run::{
    CandidateKind, Counters, Finding, Progress, RunShard, RunStatus, ShardStatus, Stage,
};
use crate::domain::{RunId, Timestamp, Upload, UploadId};

/// How far a shard is, to be written with what was done.
#[derive(Debug, Clone, Default)]
pub struct Mark {
    /// The stage that is at work, and up to where it is done; `None` leaves both.
    pub at: Option<(Stage, Option<String>)>,
    /// What the shard changed so far.
    pub counters: Counters,
    /// How many findings were written before.
    pub found: u64,
    /// Findings that are new.
    pub findings: Vec<Finding>,
    /// Suspects that are new.
    pub candidates: Vec<(CandidateKind, UploadId)>,
    /// An absence that was not believed.
    pub unverified: Option<String>,
}

/// What became of a batch.
#[derive(Debug)]
pub enum Batch {
    /// All of it is committed; the uploads are as they are now.
    Saved(Vec<Upload>),
    /// Nothing is written: somebody else wrote these first.
    Raced(Vec<usize>),
    /// Nothing is written: the shard is another's, or its run has ended.
    Lost,
}

/// What became of a shard's end.
#[derive(Debug)]
pub enum Finished {
    /// Written; other shards are left. This one was claimed with it.
    Shard(Option<RunShard>),
    /// Written, and with it the run's end.
    Run(Box<Progress>),
    /// Nothing is written: the shard is another's, or its run has ended.
    Lost,
}

/// The shards of reconciliation runs.
#[derive(Clone, Copy)]
pub struct Shards<'a>(pub(in crate::db) &'a Db);

impl Shards<'_> {
    /// Claims a shard of a run that nobody holds and whose turn it is.
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
            .all(&self.0.read)
            .await?;
        let now = time(&self.0.write, Duration::ZERO).await?;
        claim_one(&self.0.write, self.0.is_postgres(), &open, now, (holder, lease)).await
    }

    /// Holds a shard for longer; `false` where it is not this claim's any more.
    pub async fn renew(self, shard: &RunShard, lease: Duration) -> Result<bool> {
        self.hold(&self.0.write, shard, lease).await
    }

    /// Lets all shards of a process go, for others to take at once.
    pub async fn release_all(self, holder: Uuid) -> Result<()> {
        shard::Entity::update_many()
            .col_expr(shard::Column::ExpiresAt, lease_end(self.0.is_postgres(), Duration::ZERO))
            .filter(shard::Column::Holder.eq(holder))
            .filter(shard::Column::Status.eq(ShardStatus::Open.name()))
            .exec(&self.0.write)
            .await?;
        Ok(())
    }

    /// Saves a batch of a shard's work, all of it or nothing. `mark` says how far the shard
    /// is, given the uploads as they were saved.
    pub async fn save(
        self,
        shard: &RunShard,
        lease: Duration,
        changes: Vec<Change<'_>>,
        now: Timestamp,
        mark: impl FnOnce(&[Upload]) -> Mark,
    ) -> Result<Batch> {
        let txn = self.0.begin().await?;
        if !self.hold(&txn, shard, lease).await? {
            txn.rollback().await?;
            return Ok(Batch::Lost);
        }
        let (saved, superseded) = self.0.uploads().save_in(&txn, changes, now).await?;
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
        let mark = mark(&done);
        write_mark(&txn, shard, &mark, update_of(shard)).await?;
        txn.commit().await?;
        self.0.uploads().tell_all(&saved, &superseded);
        Ok(Batch::Saved(done))
    }

    /// Spends of the run's budget of deletions before anything is deleted; gives how many
    /// may be, `None` where the shard is not this claim's any more.
    pub async fn spend_deletions(
        self,
        shard: &RunShard,
        lease: Duration,
        wanted: u64,
        budget: u64,
    ) -> Result<Option<u64>> {
        let txn = self.0.begin().await?;
        let Some(run) = lock_run(&txn, shard.run).await? else {
            txn.rollback().await?;
            return Ok(None);
        };
        if !self.hold(&txn, shard, lease).await? {
            txn.rollback().await?;
            return Ok(None);
        }
        let spent = u64::try_from(run.deletions).unwrap_or_default();
        let granted = Ord::min(wanted, budget.saturating_sub(spent));
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

    /// How many deletions a run has spent.
    pub async fn spent_deletions(self, run: RunId) -> Result<u64> {
        let row = run::Entity::find_by_id(run.0).one(&self.0.read).await?;
        Ok(row.map_or(0, |row| u64::try_from(row.deletions).unwrap_or_default()))
    }

    /// Ends a shard, and its run where it was the last; else claims the next one. Ends that
    /// come at once share a commit.
    pub async fn finish(
        self,
        shard: &RunShard,
        (status, error): (ShardStatus, Option<String>),
        mark: &Mark,
        claim: (Uuid, Duration),
        now: Timestamp,
    ) -> Result<Finished> {
        let mark = Mark { unverified: error.or_else(|| mark.unverified.clone()), ..mark.clone() };
        self.0.finisher.ask(End { shard: shard.clone(), status, mark, claim, now }).await
    }

    /// Finds the shard open under its fence, locks its row, and renews its lease.
    async fn hold(
        self,
        connection: &impl ConnectionTrait,
        shard: &RunShard,
        lease: Duration,
    ) -> Result<bool> {
        let held = held(shard, self.0.is_postgres(), lease).exec(connection).await?;
        Ok(held.rows_affected == 1)
    }
}

/// A write to a shard that is open under its fence, whose lease is then so long.
pub(super) fn held(shard: &RunShard, postgres: bool, lease: Duration) -> UpdateMany<shard::Entity> {
    update_of(shard)
        .col_expr(shard::Column::ExpiresAt, lease_end(postgres, lease))
        .filter(shard::Column::Fence.eq(shard.fence))
        .filter(shard::Column::Status.eq(ShardStatus::Open.name()))
}

/// Claims one of a run's open shards that nobody holds and whose turn it is. `now` is by the
/// database's clock.
pub(super) async fn claim_one(
    connection: &impl ConnectionTrait,
    postgres: bool,
    rows: &[shard::Model],
    now: Timestamp,
    (holder, lease): (Uuid, Duration),
) -> Result<Option<RunShard>> {
    let open: Vec<_> = rows.iter().filter(|row| row.status == ShardStatus::Open.name()).collect();
    let waits = |row: &shard::Model| {
        row.closing && open.iter().any(|o| o.policy == row.policy && o.number != row.number)
    };
    for row in open.iter().filter(|row| row.expires_at <= now && !waits(row)) {
        // One statement: of several processes one finds the lease still lapsed.
        let claimed = shard::Entity::update_many()
            .col_expr(shard::Column::Holder, Expr::value(holder))
            .col_expr(shard::Column::Fence, Expr::col(shard::Column::Fence).add(1))
            .col_expr(shard::Column::ExpiresAt, lease_end(postgres, lease))
            .filter(shard::Column::RunId.eq(row.run_id))
            .filter(shard::Column::Number.eq(row.number))
            .filter(shard::Column::Status.eq(ShardStatus::Open.name()))
            .filter(Expr::col(shard::Column::ExpiresAt).lte(lease_end(postgres, Duration::ZERO)))
            .exec_with_returning(connection)
            .await?;
        if let Some(row) = claimed.into_iter().next() {
            return read_shard(row).map(Some);
        }
    }
    Ok(None)
}

fn update_of(shard: &RunShard) -> UpdateMany<shard::Entity> {
    shard::Entity::update_many()
        .filter(shard::Column::RunId.eq(shard.run.0))
        .filter(shard::Column::Number.eq(shard.number))
}

/// Locks a run that is at work. (An update without a change: `FOR UPDATE` would wait for
/// those who write findings, which hold on to the run by their foreign key.)
pub(super) async fn lock_run(txn: &DatabaseTransaction, id: RunId) -> Result<Option<run::Model>> {
    let row = run::Entity::update_many()
        .col_expr(run::Column::Status, Expr::value(RunStatus::Running.name()))
        .filter(run::Column::Id.eq(id.0))
        .filter(run::Column::Status.eq(RunStatus::Running.name()))
        .exec_with_returning(txn)
        .await?;
    Ok(row.into_iter().next())
}

/// Writes how far a shard is; `false`, and nothing, where `update` does not find it.
pub(super) async fn write_mark(
    txn: &DatabaseTransaction,
    shard: &RunShard,
    mark: &Mark,
    update: UpdateMany<shard::Entity>,
) -> Result<bool> {
    let Mark { at, counters, found, findings: new, candidates, unverified } = mark;
    let findings = i64::try_from(found + new.len() as u64).unwrap_or(i64::MAX);
    let mut change = shard::ActiveModel {
        counters: Set(serde_json::json!(counters)),
        findings: Set(findings),
        error: Set(unverified.clone()),
        ..Default::default()
    };
    if let Some((stage, cursor)) = at {
        change.stage = Set(stage.name().to_owned());
        change.cursor = Set(cursor.clone());
    }
    if update.set(change).exec(txn).await?.rows_affected == 0 {
        return Ok(false);
    }
    findings::insert(txn, shard.run, shard.number, *found, new).await?;
    missing_candidates::insert(txn, shard, candidates).await?;
    Ok(true)
}

/// Skips the open shards of some policies.
pub(super) async fn skip<'a>(
    txn: &DatabaseTransaction,
    run: RunId,
    policies: impl ExactSizeIterator<Item = &'a str>,
) -> Result<()> {
    if policies.len() == 0 {
        return Ok(());
    }
    shard::Entity::update_many()
        .col_expr(shard::Column::Status, Expr::value(ShardStatus::Skipped.name()))
        .filter(shard::Column::RunId.eq(run.0))
        .filter(shard::Column::Policy.is_in(policies))
        .filter(shard::Column::Status.eq(ShardStatus::Open.name()))
        .exec(txn)
        .await?;
    Ok(())
}

/// The shards of a run, in their order.
pub(super) async fn ends_of(
    connection: &impl ConnectionTrait,
    run: RunId,
) -> Result<Vec<shard::Model>> {
    let query = shard::Entity::find().filter(shard::Column::RunId.eq(run.0));
    Ok(query.order_by(shard::Column::Number, Order::Asc).all(connection).await?)
}
