//! The queue of inspections. A row means that an upload waits for the verdict of an inspector. Rows
//! are written in the transaction that changes the upload, and workers claim and process them.
//!
//! A row is deleted in the transaction that records the verdict with the upload, so no verdict is
//! lost. A claim sets the row's next attempt to the end of a lease. If the process dies, the row is
//! due again after that. A claim also increments the row's attempts. The number is a fencing token:
//! a process whose lease has expired cannot change a row that was claimed again.

use entity::inspection::{ActiveModel, Column, Entity, Model};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{
    Expr, ExprTrait as _, LockBehavior, LockType, OnConflict, Query, SelectStatement,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait,
    FromQueryResult as _, Order, QueryFilter, QuerySelect as _,
};
use tokio::sync::Notify;
use uuid::Uuid;

use super::engine::pool::Engine;
use super::{DbError, Result};
use crate::domain::inspection::{InspectionStatus, InspectorName, QueuedInspection};
use crate::domain::transition::Effect;
use crate::domain::upload::{Inspecting, State};
use crate::domain::{Timestamp, Upload, UploadId};

/// Rows in one statement. Each has nine parameters, and `SQLite` allows 32,766.
const CHUNK: usize = 1000;

/// The columns that a new row overwrites in the row of a backfill.
const REPLACED: [Column; 7] = [
    Column::Etag,
    Column::VersionId,
    Column::Status,
    Column::Attempts,
    Column::NextAttemptAt,
    Column::QueuedAt,
    Column::Error,
];

/// Wakes the inspection workers of this process.
#[derive(Debug, Default)]
pub(super) struct InspectionQueue {
    new_rows: Notify,
}

impl InspectionQueue {
    /// Wakes the workers, after a commit that made the upload wait for inspectors.
    pub(super) fn notify(&self, upload: &Upload) {
        if let State::Inspecting(_) = upload.state {
            self.new_rows.notify_waiters();
        }
    }
}

/// Whether a change of an upload changes the queue.
pub(super) fn concerns(effects: &[Effect]) -> bool {
    effects.contains(&Effect::QueueInspections) || effects.contains(&Effect::EndInspections)
}

/// Changes the queue for changed uploads, in the transaction that changes them.
pub(super) async fn write(
    txn: &DatabaseTransaction,
    changes: &[(Upload, Vec<Effect>)],
) -> Result<()> {
    let mut ended = Vec::new();
    let mut new = Vec::new();
    for (upload, effects) in changes {
        let waiting_for = match &upload.state {
            State::Inspecting(inspecting) => &*inspecting.waiting_for,
            _ => &[],
        };
        if effects.contains(&Effect::QueueInspections) {
            ended.push(upload.id.0);
            new.extend(rows_of(upload));
        } else if waiting_for.is_empty() {
            ended.push(upload.id.0);
        } else {
            let names = waiting_for.iter().map(InspectorName::as_str);
            let accepted = Column::Inspector.is_not_in(names);
            let done = Entity::delete_many().filter(Column::UploadId.eq(upload.id.0));
            done.filter(accepted).exec(txn).await?;
        }
    }
    for ids in ended.chunks(CHUNK) {
        let done = Entity::delete_many().filter(Column::UploadId.is_in(ids.iter().copied()));
        done.exec(txn).await?;
    }
    insert(txn, &new).await
}

fn rows_of(upload: &Upload) -> Vec<ActiveModel> {
    let State::Inspecting(Inspecting { arrived, waiting_for }) = &upload.state else {
        return Vec::new();
    };
    let row = |inspector: &InspectorName| ActiveModel {
        upload_id: Set(upload.id.0),
        inspector: Set(inspector.as_str().to_owned()),
        etag: Set(arrived.facts.etag.clone()),
        version_id: Set(arrived.facts.version_id.clone()),
        status: Set(InspectionStatus::Queued.name().to_owned()),
        attempts: Set(0),
        next_attempt_at: Set(Some(arrived.at)),
        queued_at: Set(arrived.at),
        error: Set(None),
    };
    waiting_for.iter().map(row).collect()
}

async fn insert(connection: &impl ConnectionTrait, rows: &[ActiveModel]) -> Result<()> {
    for rows in rows.chunks(CHUNK) {
        // A row of a backfill is about bytes that are already served, so a new row replaces it. Any
        // other row stays as it is.
        let known = OnConflict::columns([Column::UploadId, Column::Inspector])
            .update_columns(REPLACED)
            .action_and_where(
                Expr::col((Entity, Column::Status)).eq(InspectionStatus::Backfill.name()),
            )
            .to_owned();
        Entity::insert_many(rows.to_vec())
            .on_conflict(known)
            .exec_without_returning(connection)
            .await?;
    }
    Ok(())
}

/// The number of an inspector's inspections with one status, and the time when the oldest was
/// queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depth {
    /// The inspector.
    pub inspector: InspectorName,
    /// The status.
    pub status: InspectionStatus,
    /// The number of inspections.
    pub count: u64,
    /// When the oldest was queued.
    pub oldest: Timestamp,
}

/// The queue of inspections.
#[derive(Clone, Copy)]
pub struct Inspections<'a> {
    pub(super) engine: &'a Engine,
    pub(super) queue: &'a InspectionQueue,
}

impl Inspections<'_> {
    /// Waits for new rows of this process. Other processes write rows too, so the caller must also
    /// poll.
    pub async fn wait_for_new(self) {
        self.queue.new_rows.notified().await;
    }

    /// Queues the inspections of uploads that were inserted in the state `inspecting`.
    pub async fn add(self, uploads: &[Upload]) -> Result<()> {
        let rows: Vec<_> = uploads.iter().flat_map(rows_of).collect();
        insert(&self.engine.write, &rows).await?;
        for upload in uploads {
            self.queue.notify(upload);
        }
        Ok(())
    }

    /// Records that an inspector will send its verdict about a file that is already served (a
    /// backfill). If there is no verdict at `until`, the row becomes due, and a worker deletes it.
    pub async fn await_backfill(self, awaited: QueuedInspection, until: Timestamp) -> Result<()> {
        let QueuedInspection {
            upload,
            inspector,
            etag,
            version_id,
            status,
            attempts,
            queued_at,
            error,
        } = awaited;
        let row = ActiveModel {
            upload_id: Set(upload.0),
            inspector: Set(inspector.as_str().to_owned()),
            etag: Set(etag),
            version_id: Set(version_id),
            status: Set(status.name().to_owned()),
            attempts: Set(attempts),
            next_attempt_at: Set(Some(until)),
            queued_at: Set(queued_at),
            error: Set(error),
        };
        insert(&self.engine.write, &[row]).await
    }

    /// Claims up to `limit` due inspections of an inspector until `lease_end`, the longest due
    /// first, in one statement. With `queued_before`, claims only inspections that were queued
    /// before this time.
    pub async fn claim(
        self,
        inspector: &InspectorName,
        now: Timestamp,
        lease_end: Timestamp,
        limit: u64,
        queued_before: Option<Timestamp>,
    ) -> Result<Vec<QueuedInspection>> {
        let due = self.due(inspector, now, limit, queued_before);
        let mut claim = Query::update();
        claim
            .table(Entity)
            .value(Column::Attempts, Expr::col(Column::Attempts).add(1))
            .value(Column::NextAttemptAt, lease_end)
            .and_where(Column::Inspector.eq(inspector.as_str()))
            .and_where(Expr::col(Column::UploadId).in_subquery(due))
            .returning_all();
        let rows = self.engine.write.query_all(&claim).await?;
        rows.iter().map(|row| Model::from_query_result(row, "")?.try_into()).collect()
    }

    fn due(
        self,
        inspector: &InspectorName,
        now: Timestamp,
        limit: u64,
        queued_before: Option<Timestamp>,
    ) -> SelectStatement {
        let mut due = Query::select();
        due.column(Column::UploadId)
            .from(Entity)
            .and_where(Column::Inspector.eq(inspector.as_str()))
            .and_where(Column::NextAttemptAt.lte(now))
            .order_by(Column::NextAttemptAt, Order::Asc)
            .limit(limit);
        if let Some(before) = queued_before {
            due.and_where(Column::QueuedAt.lt(before));
        }
        if self.engine.is_postgres() {
            due.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
        }
        due
    }

    /// Records that a claimed inspection has no verdict yet, unless another process has claimed it
    /// since. `next_attempt_at` is when it is due again, if ever.
    pub async fn record(
        self,
        claimed: &QueuedInspection,
        status: InspectionStatus,
        next_attempt_at: Option<Timestamp>,
        error: Option<String>,
    ) -> Result<()> {
        let change = ActiveModel {
            status: Set(status.name().to_owned()),
            next_attempt_at: Set(next_attempt_at),
            error: Set(error),
            ..Default::default()
        };
        let row = Entity::update_many().set(change).filter(claimed_row(claimed));
        row.exec(&self.engine.write).await?;
        Ok(())
    }

    /// Deletes a claimed inspection whose upload does not wait for it any more, unless another
    /// process has claimed it since.
    pub async fn delete(self, claimed: &QueuedInspection) -> Result<()> {
        let row = Entity::delete_many().filter(claimed_row(claimed));
        row.exec(&self.engine.write).await?;
        Ok(())
    }

    /// Deletes the row of a backfill, after the verdict.
    pub async fn end_backfill(self, upload: UploadId, inspector: &InspectorName) -> Result<()> {
        let row = Entity::delete_many()
            .filter(Column::UploadId.eq(upload.0))
            .filter(Column::Inspector.eq(inspector.as_str()))
            .filter(Column::Status.eq(InspectionStatus::Backfill.name()));
        row.exec(&self.engine.write).await?;
        Ok(())
    }

    /// The queued inspections of an upload.
    pub async fn list_of(self, upload: UploadId) -> Result<Vec<QueuedInspection>> {
        let rows = Entity::find().filter(Column::UploadId.eq(upload.0)).all(&self.engine.read);
        rows.await?.into_iter().map(TryInto::try_into).collect()
    }

    /// The number of queued inspections, by inspector and status.
    pub async fn depths(self) -> Result<Vec<Depth>> {
        let rows: Vec<(String, String, i64, Timestamp)> = Entity::find()
            .select_only()
            .columns([Column::Inspector, Column::Status])
            .column_as(Expr::cust("COUNT(*)"), "rows_counted")
            .column_as(Column::QueuedAt.min(), "oldest")
            .group_by(Column::Inspector)
            .group_by(Column::Status)
            .into_tuple()
            .all(&self.engine.read)
            .await?;
        rows.into_iter()
            .map(|(inspector, status, count, oldest)| {
                let inspector = InspectorName::new(inspector);
                let status = status.parse().map_err(|()| corrupt("(unknown)".to_owned()))?;
                let count = u64::try_from(count).unwrap_or_default();
                Ok(Depth { inspector, status, count, oldest })
            })
            .collect()
    }
}

/// A claimed row, unless another process has claimed or queued it since.
fn claimed_row(claimed: &QueuedInspection) -> Condition {
    Condition::all()
        .add(Column::UploadId.eq(claimed.upload.0))
        .add(Column::Inspector.eq(claimed.inspector.as_str()))
        .add(Column::QueuedAt.eq(claimed.queued_at))
        .add(Column::Attempts.eq(claimed.attempts))
}

fn corrupt(id: String) -> DbError {
    DbError::Corrupt { table: "inspections", column: "status", id }
}

impl TryFrom<Model> for QueuedInspection {
    type Error = DbError;

    fn try_from(row: Model) -> Result<Self> {
        let Model {
            upload_id,
            inspector,
            etag,
            version_id,
            status,
            attempts,
            next_attempt_at: _,
            queued_at,
            error,
        } = row;
        let id = |id: Uuid| corrupt(id.to_string());
        Ok(Self {
            upload: UploadId(upload_id),
            inspector: InspectorName::new(inspector),
            etag,
            version_id,
            status: status.parse().map_err(|()| id(upload_id))?,
            attempts,
            queued_at,
            error,
        })
    }
}
