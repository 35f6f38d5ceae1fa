//! Reconciliation runs, their findings, and the lock of each mode and policy.
//!
//! A lock is a row with an end by the database's clock. Its holder renews it; a process
//! that died stops renewing, and the next run takes over. The run that held a lapsed
//! lock is marked failed by whoever takes it.

use std::time::Duration;

use entity::{reconcile_finding as finding, reconcile_lock as lock, reconcile_run as run};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, Order, QueryFilter,
    QueryOrder, QuerySelect, Statement,
};
use uuid::Uuid;

use super::tracks::keyset;
use super::{Cursor, Db, DbError, Page, Result};
use crate::domain::run::{Counters, Finding, FindingKind, Mode, Run, RunRequest, RunStatus};
use crate::domain::{PolicyName, RunId, Timestamp, UploadId};

/// The order of run lists and of findings, as their cursors name it.
pub const RUN_ORDER: &str = "-started_at";
/// The order of findings.
pub const FINDING_ORDER: &str = "number";

/// What became of an attempt to start a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// It holds all its locks.
    Run(Run),
    /// This run holds one of them.
    Held(RunId),
}

impl Db {
    /// Writes the run and takes the lock of its mode for each of these policies.
    pub async fn start_run(
        &self,
        id: RunId,
        request: RunRequest,
        policies: &[PolicyName],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Started> {
        let run = Run {
            id,
            request,
            status: RunStatus::Running,
            counters: Counters::default(),
            error: None,
            started_at: now,
            finished_at: None,
        };
        let txn = self.begin().await?;
        run::Entity::insert(to_row(&run)).exec_without_returning(&txn).await?;
        let db_now = database_now(&txn).await?;
        let mut policies = policies.to_vec();
        policies.sort();
        for policy in &policies {
            let holder = take_lock(&txn, self.is_postgres(), &run, policy, lease, db_now).await?;
            if let Some(holder) = holder {
                txn.rollback().await?;
                return Ok(Started::Held(holder));
            }
        }
        txn.commit().await?;
        Ok(Started::Run(run))
    }

    /// Renews a run's locks and saves its counters; `false` where the run has lost a lock
    /// or was asked to cancel.
    pub async fn renew_run(&self, run: &Run, locks: u64, lease: Duration) -> Result<Renewed> {
        let txn = self.begin().await?;
        let ends = database_now(&txn).await? + lease;
        let renewed = lock::Entity::update_many()
            .col_expr(lock::Column::ExpiresAt, Expr::value(ends))
            .filter(lock::Column::RunId.eq(run.id.0))
            .exec(&txn)
            .await?;
        if renewed.rows_affected != locks {
            txn.rollback().await?;
            return Ok(Renewed::Lost);
        }
        let row = run::Entity::update_many()
            .set(run::ActiveModel {
                counters: Set(serde_json::json!(run.counters)),
                ..Default::default()
            })
            .filter(run::Column::Id.eq(run.id.0))
            .exec_with_returning(&txn)
            .await?;
        txn.commit().await?;
        let cancelled = row.first().is_some_and(|row| row.cancel_requested);
        Ok(if cancelled { Renewed::CancelRequested } else { Renewed::Held })
    }

    /// Writes how a run ended and lets its locks go. A run that lost its locks was ended
    /// by whoever took them, and stays as it is.
    pub async fn finish_run(&self, run: &Run) -> Result<()> {
        let txn = self.begin().await?;
        // Locks before runs, as in `take_lock`: so two never wait for each other.
        let ended = database_now(&txn).await?;
        lock::Entity::update_many()
            .col_expr(lock::Column::ExpiresAt, Expr::value(ended))
            .filter(lock::Column::RunId.eq(run.id.0))
            .exec(&txn)
            .await?;
        run::Entity::update_many()
            .set(run::ActiveModel {
                status: Set(run.status.name().to_owned()),
                counters: Set(serde_json::json!(run.counters)),
                error: Set(run.error.clone()),
                finished_at: Set(run.finished_at),
                ..Default::default()
            })
            .filter(run::Column::Id.eq(run.id.0))
            .filter(run::Column::Status.eq(RunStatus::Running.name()))
            .exec(&txn)
            .await?;
        Ok(txn.commit().await?)
    }

    /// Asks a run to end; `false` where no such run is at work.
    pub async fn cancel_run(&self, id: RunId) -> Result<bool> {
        let done = run::Entity::update_many()
            .col_expr(run::Column::CancelRequested, Expr::value(true))
            .filter(run::Column::Id.eq(id.0))
            .filter(run::Column::Status.eq(RunStatus::Running.name()))
            .exec(&self.write)
            .await?;
        Ok(done.rows_affected == 1)
    }

    /// One run.
    pub async fn run(&self, id: RunId) -> Result<Option<Run>> {
        run::Entity::find_by_id(id.0).one(&self.read).await?.map(TryInto::try_into).transpose()
    }

    /// A page of runs, newest first.
    pub async fn list_runs(&self, cursor: Option<&Cursor>, limit: u64) -> Result<Page<Run>> {
        let mut query = run::Entity::find();
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
            .all(&self.read)
            .await?;
        let page = Page::cut(rows, limit, |row| Cursor {
            order: RUN_ORDER.to_owned(),
            value: row.started_at.to_rfc3339(),
            id: row.id,
        });
        let items = page.items.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok(Page { items, next: page.next })
    }

    /// Adds findings to a run; `first` is the number of the first of them.
    pub async fn add_findings(&self, id: RunId, first: u64, findings: &[Finding]) -> Result<()> {
        if findings.is_empty() {
            return Ok(());
        }
        let rows = findings.iter().zip(first..).map(|(finding, number)| finding::ActiveModel {
            run_id: Set(id.0),
            number: Set(i64::try_from(number).unwrap_or(i64::MAX)),
            kind: Set(finding.kind.name().to_owned()),
            policy: Set(finding.policy.as_str().to_owned()),
            key: Set(finding.key.clone()),
            upload_id: Set(finding.upload.map(|id| id.0)),
            size: Set(finding.size.and_then(|size| i64::try_from(size).ok())),
            detail: Set(finding.detail.clone()),
            found_at: Set(finding.found_at),
        });
        finding::Entity::insert_many(rows).exec_without_returning(&self.write).await?;
        Ok(())
    }

    /// A page of a run's findings, in the order they were made.
    pub async fn list_findings(
        &self,
        id: RunId,
        kind: Option<FindingKind>,
        cursor: Option<&Cursor>,
        limit: u64,
    ) -> Result<Page<Finding>> {
        let mut query = finding::Entity::find().filter(finding::Column::RunId.eq(id.0));
        if let Some(kind) = kind {
            query = query.filter(finding::Column::Kind.eq(kind.name()));
        }
        if let Some(after) = cursor.and_then(|cursor| cursor.value.parse::<i64>().ok()) {
            query = query.filter(finding::Column::Number.gt(after));
        }
        let rows = query
            .order_by(finding::Column::Number, Order::Asc)
            .limit(limit + 1)
            .all(&self.read)
            .await?;
        let page = Page::cut(rows, limit, |row| Cursor {
            order: FINDING_ORDER.to_owned(),
            value: row.number.to_string(),
            id: row.run_id,
        });
        let items = page.items.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok(Page { items, next: page.next })
    }
}

/// What renewing a run's locks found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// The run holds them.
    Held,
    /// The run holds them, and was asked to end.
    CancelRequested,
    /// Another run took one: this one must write nothing more.
    Lost,
}

/// Takes one lock, or names the run that holds it.
async fn take_lock(
    txn: &DatabaseTransaction,
    postgres: bool,
    run: &Run,
    policy: &PolicyName,
    lease: Duration,
    now: Timestamp,
) -> Result<Option<RunId>> {
    let mode = run.request.mode.name();
    let fresh = lock::ActiveModel {
        mode: Set(mode.to_owned()),
        policy: Set(policy.as_str().to_owned()),
        run_id: Set(run.id.0),
        fence: Set(0),
        expires_at: Set(now),
    };
    let known = [lock::Column::Mode, lock::Column::Policy];
    lock::Entity::insert(fresh)
        .on_conflict(OnConflict::columns(known).do_nothing().to_owned())
        .exec_without_returning(txn)
        .await?;
    let query = lock::Entity::find_by_id((mode.to_owned(), policy.as_str().to_owned()));
    let query = if postgres { query.lock_exclusive() } else { query };
    let Some(held) = query.one(txn).await? else { return Ok(None) };
    if held.run_id != run.id.0 && held.expires_at > now {
        return Ok(Some(RunId(held.run_id)));
    }
    if held.run_id != run.id.0 {
        interrupt(txn, held.run_id, now).await?;
    }
    lock::Entity::update_many()
        .set(lock::ActiveModel {
            run_id: Set(run.id.0),
            fence: Set(held.fence + 1),
            expires_at: Set(now + lease),
            ..Default::default()
        })
        .filter(lock::Column::Mode.eq(mode))
        .filter(lock::Column::Policy.eq(policy.as_str()))
        .exec(txn)
        .await?;
    Ok(None)
}

/// Ends a run whose process died.
async fn interrupt(txn: &DatabaseTransaction, id: Uuid, now: Timestamp) -> Result<()> {
    run::Entity::update_many()
        .set(run::ActiveModel {
            status: Set(RunStatus::Failed.name().to_owned()),
            error: Set(Some("its process ended before the run did".to_owned())),
            finished_at: Set(Some(now)),
            ..Default::default()
        })
        .filter(run::Column::Id.eq(id))
        .filter(run::Column::Status.eq(RunStatus::Running.name()))
        .exec(txn)
        .await?;
    Ok(())
}

/// The database's clock: the one that all processes share.
pub(super) async fn database_now(connection: &impl ConnectionTrait) -> Result<Timestamp> {
    let backend = connection.get_database_backend();
    let postgres = backend == DbBackend::Postgres;
    let sql = if postgres {
        "SELECT clock_timestamp() AS now"
    } else {
        "SELECT strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now') AS now"
    };
    let row = connection.query_one_raw(Statement::from_string(backend, sql)).await?;
    let row = row.ok_or(DbError::Clock)?;
    if postgres {
        return Ok(row.try_get("", "now")?);
    }
    let text: String = row.try_get("", "now")?;
    text.parse().map_err(|_| DbError::Clock)
}

fn to_row(run: &Run) -> run::ActiveModel {
    let Run { id, request, status, counters, error, started_at, finished_at } = run;
    let RunRequest { mode, policy, dry_run, force, trigger } = request;
    run::ActiveModel {
        id: Set(id.0),
        mode: Set(mode.name().to_owned()),
        policy: Set(policy.as_ref().map(|policy| policy.as_str().to_owned())),
        trigger: Set(trigger.name().to_owned()),
        dry_run: Set(*dry_run),
        forced: Set(*force),
        status: Set(status.name().to_owned()),
        cancel_requested: Set(false),
        counters: Set(serde_json::json!(counters)),
        error: Set(error.clone()),
        started_at: Set(*started_at),
        finished_at: Set(*finished_at),
    }
}

impl TryFrom<run::Model> for Run {
    type Error = DbError;

    fn try_from(row: run::Model) -> Result<Self> {
        let run::Model {
            id,
            mode,
            policy,
            trigger,
            dry_run,
            forced,
            status,
            cancel_requested: _,
            counters,
            error,
            started_at,
            finished_at,
        } = row;
        let bad = |column| DbError::Corrupt { table: "reconcile_runs", column, id: id.to_string() };
        Ok(Self {
            id: RunId(id),
            request: RunRequest {
                mode: mode.parse::<Mode>().map_err(|()| bad("mode"))?,
                policy: policy.map(PolicyName::new),
                dry_run,
                force: forced,
                trigger: trigger.parse().map_err(|()| bad("trigger"))?,
            },
            status: status.parse().map_err(|()| bad("status"))?,
            counters: serde_json::from_value(counters).map_err(|_| bad("counters"))?,
            error,
            started_at,
            finished_at,
        })
    }
}

impl TryFrom<finding::Model> for Finding {
    type Error = DbError;

    fn try_from(row: finding::Model) -> Result<Self> {
        let finding::Model { run_id, number, kind, policy, key, upload_id, size, detail, found_at } =
            row;
        let kind = kind.parse().map_err(|()| DbError::Corrupt {
            table: "reconcile_findings",
            column: "kind",
            id: format!("{run_id}/{number}"),
        })?;
        Ok(Self {
            kind,
            policy: PolicyName::new(policy),
            key,
            upload: upload_id.map(UploadId),
            size: size.and_then(|size| u64::try_from(size).ok()),
            detail,
            found_at,
        })
    }
}
