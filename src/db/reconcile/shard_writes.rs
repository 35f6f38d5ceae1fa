//! Writes to the rows of shards, within a transaction of the caller.

use std::collections::BTreeSet;
use std::time::Duration;

use entity::{reconcile_run as run, reconcile_shard as shard};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, Order, QueryFilter,
    QueryOrder, UpdateMany,
};
use uuid::Uuid;

use super::shard_row::read_shard;
use super::{findings, missing_candidates};
use crate::db::Result;
use crate::db::engine::clock::lease_end;
use crate::domain::run::{
    CandidateKind, Counters, Finding, RunShard, RunStatus, ShardStatus, Stage,
};
use crate::domain::{LocationNumber, PolicyName, RunId, Timestamp, UploadId};

/// The progress of a shard, written with the changes of a batch.
#[derive(Debug, Clone, Default)]
pub struct ShardProgress {
    /// The current stage, and the key up to which it is done; `None` keeps both unchanged.
    pub at: Option<(Stage, Option<String>)>,
    /// Whether the run is an audit.
    pub is_audit: bool,
    /// The counters of the shard so far.
    pub counters: Counters,
    /// The number of findings written before.
    pub found: u64,
    /// New findings.
    pub findings: Vec<Finding>,
    /// New candidates.
    pub candidates: Vec<(CandidateKind, UploadId)>,
    /// Why absences were ignored, if some were.
    pub unverified: Option<String>,
}

/// An update that matches the shard only if it is not finished and was not claimed again (its fence
/// is the same). The update also renews the lease.
pub(super) fn held(shard: &RunShard, postgres: bool, lease: Duration) -> UpdateMany<shard::Entity> {
    update_of(shard)
        .col_expr(shard::Column::ExpiresAt, lease_end(postgres, lease))
        .filter(shard::Column::Fence.eq(shard.fence))
        .filter(shard::Column::Status.eq(ShardStatus::Open.name()))
}

/// Claims one of a run's open shards whose lease has expired and that does not wait for other
/// shards. `now` is the time of the database's clock.
pub(super) async fn claim_one(
    connection: &impl ConnectionTrait,
    postgres: bool,
    rows: &[shard::Model],
    now: Timestamp,
    (holder, lease): (Uuid, Duration),
) -> Result<Option<RunShard>> {
    let open: Vec<_> = rows.iter().filter(|row| row.status == ShardStatus::Open.name()).collect();
    // The finalizing shards of a policy run one after another, because they share its damage limit.
    let waits = |row: &shard::Model| {
        let before =
            |o: &&shard::Model| o.policy == row.policy && (!o.closing || o.number < row.number);
        row.closing && open.iter().copied().any(|other| before(&other))
    };
    for row in open.iter().filter(|row| row.expires_at <= now && !waits(row)) {
        // Done in one statement, so that only one of several processes finds the lease expired.
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

pub(super) fn update_of(shard: &RunShard) -> UpdateMany<shard::Entity> {
    shard::Entity::update_many()
        .filter(shard::Column::RunId.eq(shard.run.0))
        .filter(shard::Column::Number.eq(shard.number))
}

/// Locks a running run by an update that changes nothing. `None` if it is not running. `FOR UPDATE`
/// would wait for the transactions that insert findings, because their foreign key locks the run.
pub(super) async fn lock_run(txn: &DatabaseTransaction, id: RunId) -> Result<Option<run::Model>> {
    let row = run::Entity::update_many()
        .col_expr(run::Column::Status, Expr::value(RunStatus::Running.name()))
        .filter(run::Column::Id.eq(id.0))
        .filter(run::Column::Status.eq(RunStatus::Running.name()))
        .exec_with_returning(txn)
        .await?;
    Ok(row.into_iter().next())
}

/// Writes the progress of a shard; `false`, and nothing is written, if `update` matches no row.
pub(super) async fn write_progress(
    txn: &DatabaseTransaction,
    shard: &RunShard,
    progress: &ShardProgress,
    update: UpdateMany<shard::Entity>,
) -> Result<bool> {
    let ShardProgress { at, is_audit, counters, found, findings: new, candidates, unverified } =
        progress;
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
    findings::record(txn, shard.run, *is_audit, new).await?;
    missing_candidates::insert(txn, shard, candidates).await?;
    Ok(true)
}

/// Skips the open shards of a run: those of some locations, or all.
pub(super) async fn skip(
    txn: &DatabaseTransaction,
    run: RunId,
    only: Option<&BTreeSet<(PolicyName, LocationNumber)>>,
) -> Result<()> {
    let mut open = shard::Entity::update_many()
        .col_expr(shard::Column::Status, Expr::value(ShardStatus::Skipped.name()))
        .filter(shard::Column::RunId.eq(run.0))
        .filter(shard::Column::Status.eq(ShardStatus::Open.name()));
    if let Some(only) = only {
        if only.is_empty() {
            return Ok(());
        }
        let at_location = |(policy, location): &(PolicyName, LocationNumber)| {
            Condition::all()
                .add(shard::Column::Policy.eq(policy.as_str()))
                .add(shard::Column::Location.eq(location.0))
        };
        open = open.filter(only.iter().map(at_location).fold(Condition::any(), Condition::add));
    }
    open.exec(txn).await?;
    Ok(())
}

/// The shards of a run, ordered by number.
pub(super) async fn ends_of(
    connection: &impl ConnectionTrait,
    run: RunId,
) -> Result<Vec<shard::Model>> {
    let query = shard::Entity::find().filter(shard::Column::RunId.eq(run.0));
    Ok(query.order_by(shard::Column::Number, Order::Asc).all(connection).await?)
}
