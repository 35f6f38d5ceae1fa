//! New uploads, by group commit: uploads that arrive while a commit is on its way share the next
//! commit.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::error::Error;
use std::sync::Arc;

use entity::{track, upload};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{
    ColumnTrait, ConnectionTrait as _, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};

use super::quota::Quota;
use super::row::to_row;
use crate::db::engine::batcher::Batcher;
use crate::db::engine::bulk_update::{RowChange, ensure_all, update_each};
use crate::db::engine::pool::Engine;
use crate::db::idempotency::{Claim, complete};
use crate::db::{DbError, Result};
use crate::domain::upload::{State, TrackSlot};
use crate::domain::{Owner, TrackId, Upload};

/// Largest number of uploads in one commit: with 33 columns each they stay below the 32,766
/// parameters of `SQLite` and the 65,535 of PostgreSQL.
const MAX_BATCH: usize = 256;

/// `None` if the owner has no such track.
type Created = Result<Option<Upload>>;

/// An upload to insert.
pub(super) struct NewUploadRow {
    pub upload: Upload,
    /// The track that the upload is for.
    pub track: Option<TrackId>,
    /// The idempotency key that is completed in the same transaction.
    pub claim: Option<Claim>,
}

/// Submits uploads to the task that commits.
pub(super) type UploadCreator = Batcher<NewUploadRow, Option<Upload>>;

/// Starts the task that commits, on the ambient runtime. An upload for a track gets the next number
/// of the track's sequence and becomes its latest. If the caller is dropped, a pending row may
/// remain, which expires like any other.
pub(super) fn start(engine: Engine, quota: Arc<Quota>) -> UploadCreator {
    Batcher::start("creating uploads", MAX_BATCH, move |new| {
        commit(engine.clone(), Arc::clone(&quota), new)
    })
}

/// Commits a batch; the results are in its order. If a row fails, each is committed alone, so that
/// only the failing one gets the error.
async fn commit(engine: Engine, quota: Arc<Quota>, new: Vec<NewUploadRow>) -> Vec<Created> {
    match insert(&engine, &quota, &new).await {
        Ok(results) => results,
        Err(error) if new.len() == 1 => vec![Err(error)],
        // Whether the batch was committed is unknown. A second attempt might report a duplicate id.
        Err(DbError::Unavailable(error)) => {
            tracing::warn!(
                creations = new.len(),
                error = &error as &dyn Error,
                "a group of uploads was not created"
            );
            new.iter().map(|_| Err(DbError::Busy)).collect()
        }
        Err(_) => {
            let mut results: Vec<Created> = Vec::with_capacity(new.len());
            for one in &new {
                if matches!(results.last(), Some(Err(DbError::Unavailable(_) | DbError::Busy))) {
                    results.push(Err(DbError::Busy));
                    continue;
                }
                let inserted = insert(&engine, &quota, std::slice::from_ref(one)).await;
                results.push(inserted.and_then(|mut one| one.pop().unwrap_or(Ok(None))));
            }
            results
        }
    }
}

/// Inserts a batch in one transaction; the results are in its order. Without idempotency keys and
/// quotas this takes at most three statements, whatever the batch's size.
async fn insert(engine: &Engine, quota: &Quota, new: &[NewUploadRow]) -> Result<Vec<Created>> {
    let txn = engine.begin().await?;
    let mut tracks = lock_tracks(&txn, new).await?;
    if !quota.is_empty() {
        let owners = new.iter().map(|new| new.upload.owner.as_str()).collect();
        Quota::lock(&txn, &owners).await?;
    }
    let mut results = Vec::with_capacity(new.len());
    let mut rows = Vec::with_capacity(new.len());
    for NewUploadRow { upload, track, claim } in new {
        match quota.check(&txn, upload).await {
            Ok(()) => {}
            Err(over @ DbError::OverQuota { .. }) => {
                results.push(Err(over));
                continue;
            }
            Err(error) => return Err(error),
        }
        if track.is_some_and(|track| !tracks.contains_key(&(track, upload.owner.clone()))) {
            results.push(Ok(None));
            continue;
        }
        if let Some(claim) = claim
            && !complete(&txn, claim).await?
        {
            results.push(Err(DbError::Busy));
            continue;
        }
        let placed = assign_sequence(upload, *track, &mut tracks);
        rows.extend(placed.as_ref().map(new_row));
        if !quota.is_empty() {
            // The quota counts it for the owner's next one.
            insert_rows(&txn, &mut rows).await?;
        }
        results.push(Ok(placed));
    }
    insert_rows(&txn, &mut rows).await?;
    update_tracks(&txn, tracks).await?;
    txn.commit().await?;
    Ok(results)
}

/// The row of a new upload. A pending one leaves out the columns that are NULL until it arrives.
fn new_row(upload: &Upload) -> upload::ActiveModel {
    if !matches!(upload.state, State::Pending) {
        return to_row(upload);
    }
    upload::ActiveModel {
        reason: NotSet,
        confirmed_by: NotSet,
        etag: NotSet,
        version_id: NotSet,
        size: NotSet,
        content_type: NotSet,
        checksum_algorithm: NotSet,
        checksum: NotSet,
        uploaded_at: NotSet,
        object_delete_after: NotSet,
        object_deleted_at: NotSet,
        ..to_row(upload)
    }
}

/// Assigns the next number of the track to an upload; `None` if there is no such track.
fn assign_sequence(upload: &Upload, track: Option<TrackId>, tracks: &mut Tracks) -> Option<Upload> {
    let mut upload = upload.clone();
    let Some(id) = track else { return Some(upload) };
    let row = tracks.get_mut(&(id, upload.owner.clone()))?;
    upload.slot = Some(TrackSlot { track: id, sequence: row.next_sequence });
    row.next_sequence += 1;
    row.latest_upload_id = Some(upload.id.0);
    upload.status().name().clone_into(&mut row.status);
    row.updated_at = row.updated_at.max(upload.created_at);
    Some(upload)
}

async fn insert_rows(txn: &DatabaseTransaction, rows: &mut Vec<upload::ActiveModel>) -> Result<()> {
    if !rows.is_empty() {
        upload::Entity::insert_many(rows.drain(..)).exec_without_returning(txn).await?;
    }
    Ok(())
}

async fn update_tracks(txn: &DatabaseTransaction, tracks: Tracks) -> Result<()> {
    let changes: Vec<_> = tracks
        .into_values()
        .map(|row| RowChange {
            id: row.id,
            version: row.version,
            values: track::ActiveModel {
                next_sequence: Set(row.next_sequence),
                latest_upload_id: Set(row.latest_upload_id),
                status: Set(row.status),
                updated_at: Set(row.updated_at),
                ..Default::default()
            },
        })
        .collect();
    let columns = (track::Column::Id, track::Column::Version);
    ensure_all(&changes, update_each(txn, columns, &changes).await?)
}

type Tracks = HashMap<(TrackId, Owner), track::Model>;

/// Locks the requested tracks in the order of their ids, as all transactions do. A track is found
/// only under its owner.
async fn lock_tracks(txn: &DatabaseTransaction, new: &[NewUploadRow]) -> Result<Tracks> {
    let ids: BTreeSet<_> = new.iter().filter_map(|new| new.track).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let query = track::Entity::find()
        .filter(track::Column::Id.is_in(ids.iter().map(|id| id.0)))
        .order_by_asc(track::Column::Id);
    let postgres = txn.get_database_backend() == DbBackend::Postgres;
    let query = if postgres { query.lock_exclusive() } else { query };
    let rows = query.all(txn).await?;
    let requested: HashSet<_> =
        new.iter().filter_map(|new| Some((new.track?, new.upload.owner.clone()))).collect();
    Ok(rows
        .into_iter()
        .map(|row| ((TrackId(row.id), Owner::named(&row.owner)), row))
        .filter(|(track, _)| requested.contains(track))
        .collect())
}
