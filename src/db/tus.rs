//! Uploads that are received in pieces: their progress, their writer, and where their bytes are.
//!
//! Each request that wants to write raises the upload's *fence*. The new value is the request's
//! number. The writer holds a lease, measured by the database's clock, and renews it. When it sees
//! a higher fence, it saves what it has and releases the lease. The request with the highest number
//! then takes the lease. Each write names its writer, and writes nothing if another request has
//! taken the lease. So a process that was paused or disconnected cannot damage an upload.

use std::collections::HashMap;
use std::time::Duration;

use entity::{tus_piece as piece, tus_upload as tus, upload};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SimpleExpr};
use sea_orm::{
    ColumnTrait, Condition, DatabaseConnection, DbBackend, EntityTrait, Order, QueryFilter,
    QueryOrder, QuerySelect, UpdateMany,
};
use uuid::Uuid;

use super::engine::batcher::Batcher;
use super::engine::clock::lease_end;
use super::engine::pool::Engine;
use super::{DbError, Result};
use crate::domain::checksum::{Algorithm, Checksum};
use crate::domain::tus::{Piece, StoredAs, TusUpload};
use crate::domain::{Status, Timestamp, UploadId};

/// Rows of pieces in one statement: seven parameters each, and `SQLite` allows 32,766.
const CHUNK: usize = 1000;

/// The maximum number of renewals in one statement.
const MAX_RENEWALS: usize = 256;

/// The result of a request for the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The number of the request.
    pub number: i64,
    /// The upload, if the request is now its writer.
    pub taken: Option<TusUpload>,
}

/// What a writer has stored since its last commit.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The pieces, in order. They replace all pieces that start at or after the first of them.
    pub pieces: Vec<Piece>,
    /// The length of the file, if this request has declared it.
    pub length: Option<u64>,
}

/// Uploads that are received in pieces.
#[derive(Clone, Copy)]
pub struct TusUploads<'a> {
    pub(in crate::db) engine: &'a Engine,
    pub(in crate::db) renewals: &'a LeaseRenewals,
}

/// A lease to renew: the upload, the writer, and the minimum time that the lease lasts after the
/// renewal. A batch of renewals uses the longest of its times.
type Renewal = (UploadId, i64, Duration);

/// Submits renewals to the task that writes them together in one commit. Each writer of a process
/// renews its lease every second.
pub(in crate::db) type LeaseRenewals = Batcher<Renewal, Option<i64>>;

/// Starts the task that writes renewals.
pub(in crate::db) fn start_renewals(write: DatabaseConnection) -> LeaseRenewals {
    Batcher::start("lease renewals", MAX_RENEWALS, move |renewals| {
        renew_all(write.clone(), renewals)
    })
}

async fn renew_all(write: DatabaseConnection, renewals: Vec<Renewal>) -> Vec<Result<Option<i64>>> {
    let postgres = write.get_database_backend() == DbBackend::Postgres;
    let longest = renewals.iter().map(|(.., lease)| *lease).max().unwrap_or_default();
    let mut of_writers = Condition::any();
    for (id, writer, _) in &renewals {
        let of_writer = Condition::all()
            .add(tus::Column::UploadId.eq(id.0))
            .add(tus::Column::Writer.eq(*writer));
        of_writers = of_writers.add(of_writer);
    }
    let renewed = tus::Entity::update_many()
        .col_expr(tus::Column::LeaseUntil, lease_end(postgres, longest))
        .filter(of_writers)
        .exec_with_returning(&write)
        .await;
    let rows = match renewed {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "leases were not renewed");
            return renewals.iter().map(|_| Err(DbError::Busy)).collect();
        }
    };
    let fences: HashMap<_, _> =
        rows.iter().map(|row| ((row.upload_id, row.writer), row.fence)).collect();
    let fence = |(id, writer, _): &Renewal| Ok(fences.get(&(id.0, *writer)).copied());
    renewals.iter().map(fence).collect()
}

impl TusUploads<'_> {
    /// Inserts an upload of which nothing is stored yet. `checked_parts`: see
    /// [`TusUpload::checked_parts`].
    pub async fn create(
        self,
        id: UploadId,
        length: Option<u64>,
        metadata: Option<String>,
        checked_parts: bool,
    ) -> Result<()> {
        let row = tus::ActiveModel {
            upload_id: Set(id.0),
            stored: Set(0),
            length: Set(length.map(signed)),
            metadata: Set(metadata),
            next_part: Set(1),
            fence: Set(0),
            writer: Set(0),
            lease_until: Set(Timestamp::UNIX_EPOCH),
            checked_parts: Set(checked_parts),
        };
        tus::Entity::insert(row).exec_without_returning(&self.engine.write).await?;
        Ok(())
    }

    /// Returns the upload. The caller does not need the lease.
    pub async fn find(self, id: UploadId) -> Result<Option<TusUpload>> {
        let row = tus::Entity::find_by_id(id.0).one(&self.engine.read).await?;
        row.map(TusUpload::try_from).transpose()
    }

    /// Requests the lease: raises the fence, and takes the lease if it is free. `None` if there is
    /// no such upload.
    pub async fn claim(self, id: UploadId, lease: Duration) -> Result<Option<Claim>> {
        let next = || Expr::col(tus::Column::Fence).add(1);
        let writer = Expr::case(self.is_free(), next()).finally(Expr::col(tus::Column::Writer));
        let until = Expr::case(self.is_free(), self.lease_end(lease))
            .finally(Expr::col(tus::Column::LeaseUntil));
        let rows = of_upload(id)
            .col_expr(tus::Column::Writer, writer.into())
            .col_expr(tus::Column::LeaseUntil, until.into())
            .col_expr(tus::Column::Fence, next())
            .exec_with_returning(&self.engine.write)
            .await?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        let (number, is_writer) = (row.fence, row.writer == row.fence);
        let taken = is_writer.then(|| row.try_into()).transpose()?;
        Ok(Some(Claim { number, taken }))
    }

    /// Takes the lease if it is free and no newer request wants it.
    pub async fn take(
        self,
        id: UploadId,
        number: i64,
        lease: Duration,
    ) -> Result<Option<TusUpload>> {
        let rows = of_upload(id)
            .col_expr(tus::Column::Writer, Expr::value(number))
            .col_expr(tus::Column::LeaseUntil, self.lease_end(lease))
            .filter(tus::Column::Fence.eq(number))
            .filter(self.is_free())
            .exec_with_returning(&self.engine.write)
            .await?;
        rows.into_iter().next().map(TryInto::try_into).transpose()
    }

    /// Renews the lease of a writer, and returns the fence. If the fence is higher than the
    /// writer's number, another request waits. `None` if another request has taken the lease.
    pub async fn renew(self, id: UploadId, writer: i64, lease: Duration) -> Result<Option<i64>> {
        self.renewals.submit((id, writer, lease)).await
    }

    /// Reserves a part number for a writer. Each number is used once, so a part that arrives late
    /// replaces no other part. `None` if another request has taken the lease.
    pub async fn next_part(self, id: UploadId, writer: i64) -> Result<Option<u16>> {
        let rows = of_writer(id, writer)
            .col_expr(tus::Column::NextPart, Expr::col(tus::Column::NextPart).add(1))
            .exec_with_returning(&self.engine.write)
            .await?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        let number = u16::try_from(row.next_part - 1);
        number.map(Some).map_err(|_| corrupt(id.0, "next_part"))
    }

    /// Commits what a writer has stored. Returns `false` and writes nothing if another request has
    /// taken the lease.
    pub async fn commit(
        self,
        id: UploadId,
        writer: i64,
        progress: &Progress,
        lease: Duration,
    ) -> Result<bool> {
        let Progress { pieces, length } = progress;
        let txn = self.engine.begin().await?;
        let mut update =
            of_writer(id, writer).col_expr(tus::Column::LeaseUntil, self.lease_end(lease));
        if let Some(length) = length {
            update = update.col_expr(tus::Column::Length, Expr::value(signed(*length)));
        }
        if let Some(last) = pieces.last() {
            update = update.col_expr(tus::Column::Stored, Expr::value(signed(last.end())));
        }
        if update.exec(&txn).await?.rows_affected == 0 {
            txn.rollback().await?;
            return Ok(false);
        }
        if let Some(first) = pieces.first() {
            piece::Entity::delete_many()
                .filter(piece::Column::UploadId.eq(id.0))
                .filter(piece::Column::Start.gte(signed(first.start)))
                .exec(&txn)
                .await?;
        }
        for pieces in pieces.chunks(CHUNK) {
            let rows = pieces.iter().map(|piece| row_of(id, piece));
            piece::Entity::insert_many(rows).exec_without_returning(&txn).await?;
        }
        txn.commit().await?;
        Ok(true)
    }

    /// Ends the lease of a writer, so that a waiting request can take it at once.
    pub async fn release(self, id: UploadId, writer: i64) -> Result<()> {
        of_writer(id, writer)
            .col_expr(tus::Column::LeaseUntil, self.lease_end(Duration::ZERO))
            .exec(&self.engine.write)
            .await?;
        Ok(())
    }

    /// Returns where the stored bytes are, in order.
    pub async fn pieces(self, id: UploadId) -> Result<Vec<Piece>> {
        self.read_pieces(id, Condition::all()).await
    }

    /// Returns the tails, which are the pieces after the last part, in order.
    pub async fn tails(self, id: UploadId) -> Result<Vec<Piece>> {
        self.read_pieces(id, piece::Column::Tail.is_not_null().into()).await
    }

    /// Deletes the pieces of an upload that has ended, and its lease. Its writer then stops.
    pub async fn end(self, id: UploadId) -> Result<()> {
        let txn = self.engine.begin().await?;
        of_upload(id)
            .col_expr(tus::Column::Fence, Expr::col(tus::Column::Fence).add(1))
            .col_expr(tus::Column::Writer, Expr::col(tus::Column::Fence).add(1))
            .col_expr(tus::Column::LeaseUntil, self.lease_end(Duration::ZERO))
            .exec(&txn)
            .await?;
        let pieces = piece::Entity::delete_many().filter(piece::Column::UploadId.eq(id.0));
        pieces.exec(&txn).await?;
        txn.commit().await?;
        Ok(())
    }

    /// Deletes a batch of rows of uploads that are no longer pending. Returns their number.
    pub async fn prune(self, limit: u64) -> Result<u64> {
        // Each row's upload is looked up by its id: this table has few rows, and there are many
        // uploads.
        let of_row = Expr::col((upload::Entity, upload::Column::Id))
            .equals((tus::Entity, tus::Column::UploadId));
        let pending = Query::select()
            .expr(Expr::val(1))
            .from(upload::Entity)
            .and_where(of_row)
            .and_where(upload::Column::Status.eq(Status::Pending.name()))
            .to_owned();
        let ended = Expr::exists(pending).not();
        let ids: Vec<Uuid> = tus::Entity::find()
            .select_only()
            .column(tus::Column::UploadId)
            .filter(ended)
            .order_by(tus::Column::UploadId, Order::Asc)
            .limit(limit)
            .into_tuple()
            .all(&self.engine.read)
            .await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let txn = self.engine.begin().await?;
        let of_ended = piece::Column::UploadId.is_in(ids.iter().copied());
        piece::Entity::delete_many().filter(of_ended).exec(&txn).await?;
        let of_ended = tus::Column::UploadId.is_in(ids);
        let done = tus::Entity::delete_many().filter(of_ended).exec(&txn).await?;
        txn.commit().await?;
        Ok(done.rows_affected)
    }

    async fn read_pieces(self, id: UploadId, condition: Condition) -> Result<Vec<Piece>> {
        let rows = piece::Entity::find()
            .filter(piece::Column::UploadId.eq(id.0))
            .filter(condition)
            .order_by(piece::Column::Start, Order::Asc)
            .all(&self.engine.read)
            .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    fn lease_end(self, lease: Duration) -> SimpleExpr {
        lease_end(self.engine.is_postgres(), lease)
    }

    /// Whether no request has the lease.
    fn is_free(self) -> SimpleExpr {
        Expr::col(tus::Column::LeaseUntil).lte(self.lease_end(Duration::ZERO))
    }
}

fn of_upload(id: UploadId) -> UpdateMany<tus::Entity> {
    tus::Entity::update_many().filter(tus::Column::UploadId.eq(id.0))
}

fn of_writer(id: UploadId, writer: i64) -> UpdateMany<tus::Entity> {
    of_upload(id).filter(tus::Column::Writer.eq(writer))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn corrupt(id: Uuid, column: &'static str) -> DbError {
    DbError::Corrupt { table: "tus_uploads", column, id: id.to_string() }
}

fn row_of(id: UploadId, piece: &Piece) -> piece::ActiveModel {
    let Piece { start, size, stored_as, etag, checksum } = piece;
    let (part, tail) = match stored_as {
        StoredAs::Part(number) => (Some(i32::from(*number)), None),
        StoredAs::Tail(writer) => (None, Some(*writer)),
    };
    piece::ActiveModel {
        upload_id: Set(id.0),
        start: Set(signed(*start)),
        size: Set(signed(*size)),
        part_number: Set(part),
        tail: Set(tail),
        etag: Set(etag.clone()),
        checksum: Set(checksum.as_ref().map(Checksum::value)),
    }
}

impl TryFrom<tus::Model> for TusUpload {
    type Error = DbError;

    fn try_from(row: tus::Model) -> Result<Self> {
        let tus::Model {
            upload_id: id, stored, length, metadata, next_part, checked_parts, ..
        } = row;
        Ok(Self {
            stored: stored.try_into().map_err(|_| corrupt(id, "stored"))?,
            length: length.map(TryInto::try_into).transpose().map_err(|_| corrupt(id, "length"))?,
            metadata,
            next_part: next_part.try_into().map_err(|_| corrupt(id, "next_part"))?,
            checked_parts,
        })
    }
}

impl TryFrom<piece::Model> for Piece {
    type Error = DbError;

    fn try_from(row: piece::Model) -> Result<Self> {
        let piece::Model { upload_id: id, start, size, part_number, tail, etag, checksum } = row;
        let corrupt = |column| DbError::Corrupt { table: "tus_pieces", column, id: id.to_string() };
        let stored_as = match (part_number, tail) {
            (Some(number), None) => {
                StoredAs::Part(number.try_into().map_err(|_| corrupt("part_number"))?)
            }
            (None, Some(writer)) => StoredAs::Tail(writer),
            _ => return Err(corrupt("tail")),
        };
        Ok(Self {
            start: start.try_into().map_err(|_| corrupt("start"))?,
            size: size.try_into().map_err(|_| corrupt("size"))?,
            stored_as,
            etag,
            checksum: checksum
                .map(|value| Checksum::parse(Algorithm::Crc64nvme, &value))
                .transpose()
                .map_err(|_| corrupt("checksum"))?,
        })
    }
}

#[cfg(test)]
#[path = "tus_tests.rs"]
mod tests;
