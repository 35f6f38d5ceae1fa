//! Reconciliation runs, and the lock of each mode and policy.
//!
//! A lock is a row with the id of the run in progress for a mode and policy. It is released when
//! that run ends. A run does not belong to a process: processes lease its shards (see
//! [`super::shards`]), so a run continues after the process that started it has died.

use std::collections::BTreeMap;
use std::time::Duration;

use entity::{reconcile_lock as lock, reconcile_run as run, reconcile_shard as shard};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::run_row::to_row;
use super::shard_row::{new_row, read_shard};
use super::shard_writes::ends_of;
use crate::db::engine::clock::{lease_end, time};
use crate::db::engine::pagination::keyset;
use crate::db::engine::pool::Engine;
use crate::db::{Cursor, Page, Result};
use crate::domain::run::{
    Counters, Mode, NewShard, Progress, Run, RunRequest, RunShard, RunStatus, ShardStatus,
};
use crate::domain::{PolicyName, RunId, Timestamp};

/// The number of audits that are read to find the newest audit of each policy.
const MAX_AUDITS: u64 = 100;

/// The order of run lists, as named in their cursors.
pub const RUN_ORDER: &str = "runs:-started_at";

/// A run that is to start.
#[derive(Debug)]
pub struct NewRun<'a> {
    /// Its id.
    pub id: RunId,
    /// The request.
    pub request: RunRequest,
    /// The policies to reconcile.
    pub policies: &'a [PolicyName],
    /// The shards of work. A run without shards ends at once.
    pub shards: &'a [NewShard],
    /// The scheduled time. All processes together start one run for it.
    pub scheduled_for: Option<Timestamp>,
    /// The process that starts the run and gets the first shards.
    pub holder: Uuid,
    /// The number of shards that the holder gets.
    pub claims: usize,
    /// The length of their leases.
    pub lease: Duration,
}

/// The result of an attempt to start a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// The run has started. Contains the shards that its holder has claimed.
    Run(Run, Vec<RunShard>),
    /// Another run, which has this id, holds one of the locks.
    Held(RunId),
    /// Another process started a run for the same scheduled time.
    Taken,
}

/// Reconciliation runs and their locks.
#[derive(Clone, Copy)]
pub struct Runs<'a>(pub(in crate::db) &'a Engine);

impl Runs<'_> {
    /// Writes the run and its shards, and takes the lock of its mode for each policy.
    pub async fn start(self, new: NewRun<'_>, now: Timestamp) -> Result<Started> {
        let ended = new.shards.is_empty();
        let run = Run {
            id: new.id,
            request: new.request,
            status: if ended { RunStatus::Succeeded } else { RunStatus::Running },
            counters: Counters::default(),
            error: None,
            started_at: now,
            finished_at: ended.then_some(now),
        };
        let txn = self.0.begin().await?;
        let tick = [run::Column::Mode, run::Column::ScheduledFor];
        let added = run::Entity::insert(to_row(&run, new.scheduled_for))
            .on_conflict(OnConflict::columns(tick).do_nothing().to_owned())
            .exec_without_returning(&txn)
            .await?;
        if added == 0 {
            txn.rollback().await?;
            return Ok(Started::Taken);
        }
        let mut policies = new.policies.to_vec();
        policies.sort();
        for policy in &policies {
            if let Some(holder) = take_lock(&txn, self.0.is_postgres(), &run, policy).await? {
                txn.rollback().await?;
                return Ok(Started::Held(holder));
            }
        }
        // A finalizing shard waits for the other shards of its policy.
        let alone = |new: &NewShard, all: &[NewShard]| {
            !new.finalizes || all.iter().filter(|other| other.policy == new.policy).count() == 1
        };
        let (mut rows, mut claimed) = (Vec::new(), Vec::new());
        let lease = time(&txn, new.lease).await?;
        for (number, part) in (0..).zip(new.shards) {
            let mine = claimed.len() < new.claims && alone(part, new.shards);
            let row = new_row(run.id, number, part, mine.then_some(new.holder), lease);
            if mine {
                claimed.push(row.clone());
            }
            rows.push(row);
        }
        if !rows.is_empty() {
            use sea_orm::IntoActiveModel as _;
            let rows = rows.into_iter().map(shard::Model::into_active_model);
            shard::Entity::insert_many(rows).exec_without_returning(&txn).await?;
        }
        txn.commit().await?;
        let claimed = claimed.into_iter().map(read_shard).collect::<Result<_>>()?;
        Ok(Started::Run(run, claimed))
    }

    /// The runs that have not ended, whether a process holds shards of them or not.
    pub async fn list_running(self) -> Result<Vec<RunId>> {
        let ids: Vec<Uuid> = run::Entity::find()
            .select_only()
            .column(run::Column::Id)
            // A literal, not a parameter: otherwise the planner can't use the index, which contains
            // only these rows.
            .filter(Expr::cust("status = 'running'"))
            .into_tuple()
            .all(&self.0.read)
            .await?;
        Ok(ids.into_iter().map(RunId).collect())
    }

    /// Whether a run has not ended and no process holds a shard of it.
    pub async fn is_unclaimed(self, id: RunId) -> Result<bool> {
        if self.is_running(id).await? != Some(true) {
            return Ok(false);
        }
        let held = shard::Entity::find()
            .filter(shard::Column::RunId.eq(id.0))
            .filter(shard::Column::Status.eq(ShardStatus::Open.name()))
            .filter(
                Expr::col(shard::Column::ExpiresAt)
                    .gt(lease_end(self.0.is_postgres(), Duration::ZERO)),
            );
        Ok(held.limit(1).one(&self.0.read).await?.is_none())
    }

    /// Ends a run; the processes that hold its shards lose them. `None` if no such run is
    /// running.
    pub async fn cancel(self, id: RunId, why: &str, now: Timestamp) -> Result<Option<Progress>> {
        let txn = self.0.begin().await?;
        let run = run::Entity::update_many()
            .col_expr(run::Column::CancelRequested, Expr::value(true))
            .filter(run::Column::Id.eq(id.0))
            .filter(run::Column::Status.eq(RunStatus::Running.name()))
            .exec_with_returning(&txn)
            .await?;
        let Some(run) = run.into_iter().next() else {
            txn.rollback().await?;
            return Ok(None);
        };
        shard::Entity::update_many()
            .col_expr(shard::Column::Status, Expr::value(ShardStatus::Skipped.name()))
            .filter(shard::Column::RunId.eq(id.0))
            .filter(shard::Column::Status.eq(ShardStatus::Open.name()))
            .exec(&txn)
            .await?;
        let shards = ends_of(&txn, id).await?;
        let why = Some(why.to_owned());
        let ended = end_run(&txn, run, &shards, RunStatus::Cancelled, why, now).await?;
        txn.commit().await?;
        Ok(Some(ended))
    }

    /// One run, with its counters so far.
    pub async fn find(self, id: RunId) -> Result<Option<Run>> {
        let Some(run) = self.stored_run(id).await? else { return Ok(None) };
        if run.status != RunStatus::Running {
            return Ok(Some(run));
        }
        let shards = ends_of(&self.0.read, id).await?;
        Ok(Some(summed(run, &shards)?.run))
    }

    /// Whether a run is running; `None` if there is no such run.
    pub async fn is_running(self, id: RunId) -> Result<Option<bool>> {
        Ok(self.stored_run(id).await?.map(|run| run.status == RunStatus::Running))
    }

    /// The progress of a run.
    pub async fn progress(self, id: RunId) -> Result<Option<Progress>> {
        let Some(run) = self.stored_run(id).await? else { return Ok(None) };
        let shards = ends_of(&self.0.read, id).await?;
        summed(run, &shards).map(Some)
    }

    /// A run as stored. Its counters are written when it ends.
    async fn stored_run(self, id: RunId) -> Result<Option<Run>> {
        let row = run::Entity::find_by_id(id.0).one(&self.0.read).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// The newest run of a mode with this status.
    pub async fn newest(self, mode: Mode, status: RunStatus) -> Result<Option<Run>> {
        use run::Column;
        let newest = run::Entity::find()
            .filter(Column::Mode.eq(mode.name()))
            .filter(Column::Status.eq(status.name()))
            .order_by(Column::StartedAt, Order::Desc)
            .limit(1);
        newest.one(&self.0.read).await?.map(TryInto::try_into).transpose()
    }

    /// For each policy, the number of objects without a row, according to its newest successful
    /// audit. Policies without an audit are left out.
    pub async fn count_orphans(self) -> Result<BTreeMap<PolicyName, u64>> {
        use run::Column;
        let audits: Vec<(Uuid, Option<String>, bool)> = run::Entity::find()
            .select_only()
            .columns([Column::Id, Column::Policy, Column::DryRun])
            .filter(Column::Mode.eq(Mode::Audit.name()))
            .filter(Column::Status.eq(RunStatus::Succeeded.name()))
            .order_by(Column::StartedAt, Order::Desc)
            .order_by(Column::Id, Order::Desc)
            .limit(MAX_AUDITS)
            .into_tuple()
            .all(&self.0.read)
            .await?;
        let mut counts = BTreeMap::new();
        for (id, policy, dry_run) in audits {
            if policy.as_ref().is_some_and(|name| counts.contains_key(&PolicyName::new(name))) {
                continue;
            }
            let mut of_run: BTreeMap<PolicyName, u64> = BTreeMap::new();
            for row in ends_of(&self.0.read, RunId(id)).await? {
                let Counters { orphans, adopted, .. } = super::shard_row::counters_of(&row)?;
                let adopted = if dry_run { 0 } else { adopted };
                *of_run.entry(PolicyName::new(row.policy)).or_default() +=
                    orphans.saturating_sub(adopted);
            }
            for (policy, count) in of_run {
                counts.entry(policy).or_insert(count);
            }
            if policy.is_none() {
                break;
            }
        }
        Ok(counts)
    }

    /// A page of runs of some modes, newest first.
    pub async fn list(
        self,
        modes: &[Mode],
        cursor: Option<&Cursor>,
        limit: u64,
    ) -> Result<Page<Run>> {
        let modes = modes.iter().map(|mode| mode.name());
        let mut query = run::Entity::find().filter(run::Column::Mode.is_in(modes));
        if let Some(cursor) = cursor
            && let Ok(at) = cursor.value.parse::<Timestamp>()
        {
            let columns = (run::Column::StartedAt, run::Column::Id);
            query = query.filter(keyset(columns.0, columns.1, at.into(), cursor.id, true));
        }
        let rows = query
            .order_by(run::Column::StartedAt, Order::Desc)
            .order_by(run::Column::Id, Order::Desc)
            .limit(limit + 1)
            .all(&self.0.read)
            .await?;
        let page = Page::cut(rows, limit, |row| Cursor {
            order: RUN_ORDER.to_owned(),
            value: row.started_at.to_rfc3339(),
            id: row.id,
        });
        let mut items = Vec::with_capacity(page.items.len());
        for row in page.items {
            let run: Run = row.try_into()?;
            let run = match run.status {
                RunStatus::Running => self.find(run.id).await?.unwrap_or(run),
                _ => run,
            };
            items.push(run);
        }
        Ok(Page { items, next: page.next })
    }
}

/// A run's progress: the sum of its shards, or the stored counters of an ended run.
fn summed(mut run: Run, shards: &[shard::Model]) -> Result<Progress> {
    let mut counters = Counters::default();
    for row in shards {
        counters.add(&super::shard_row::counters_of(row)?);
    }
    if run.status == RunStatus::Running {
        run.counters = counters;
    }
    let done = shards.iter().filter(|row| row.status != ShardStatus::Open.name()).count();
    Ok(Progress {
        run,
        findings: shards.iter().map(|row| u64::try_from(row.findings).unwrap_or(0)).sum(),
        shards: shards.len() as u64,
        shards_done: done as u64,
    })
}

/// Writes the end of a run, with the sum of its shards.
pub(super) async fn end_run(
    txn: &DatabaseTransaction,
    row: run::Model,
    shards: &[shard::Model],
    status: RunStatus,
    error: Option<String>,
    now: Timestamp,
) -> Result<Progress> {
    let mut progress = summed(row.try_into()?, shards)?;
    let run = &mut progress.run;
    (run.status, run.error, run.finished_at) = (status, error, Some(now));
    run::Entity::update_many()
        .set(run::ActiveModel {
            status: Set(run.status.name().to_owned()),
            counters: Set(serde_json::json!(run.counters)),
            error: Set(run.error.clone()),
            finished_at: Set(run.finished_at),
            ..Default::default()
        })
        .filter(run::Column::Id.eq(run.id.0))
        .exec(txn)
        .await?;
    super::missing_candidates::forget(txn, run.id).await?;
    Ok(progress)
}

/// Takes one lock, or returns the run that holds it.
async fn take_lock(
    txn: &DatabaseTransaction,
    postgres: bool,
    run: &Run,
    policy: &PolicyName,
) -> Result<Option<RunId>> {
    let mode = run.request.mode.name();
    let fresh = lock::ActiveModel {
        mode: Set(mode.to_owned()),
        policy: Set(policy.as_str().to_owned()),
        run_id: Set(run.id.0),
    };
    let known = [lock::Column::Mode, lock::Column::Policy];
    lock::Entity::insert(fresh)
        .on_conflict(OnConflict::columns(known).do_nothing().to_owned())
        .exec_without_returning(txn)
        .await?;
    let query = lock::Entity::find_by_id((mode.to_owned(), policy.as_str().to_owned()));
    let query = if postgres { query.lock_exclusive() } else { query };
    let Some(held) = query.one(txn).await? else { return Ok(None) };
    if held.run_id == run.id.0 {
        return Ok(None);
    }
    let holder = run::Entity::find_by_id(held.run_id).one(txn).await?;
    if holder.is_some_and(|holder| holder.status == RunStatus::Running.name()) {
        return Ok(Some(RunId(held.run_id)));
    }
    lock::Entity::update_many()
        .col_expr(lock::Column::RunId, Expr::value(run.id.0))
        .filter(lock::Column::Mode.eq(mode))
        .filter(lock::Column::Policy.eq(policy.as_str()))
        .exec(txn)
        .await?;
    Ok(None)
}
