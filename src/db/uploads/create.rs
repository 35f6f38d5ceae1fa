//! New uploads, by group commit: creations that arrive while a commit is on its way share
//! the next one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::error::Error;
use std::sync::Arc;

use super::locked_rows::all;
use super::row::to_row;
use crate::db::engine::batcher::Grouped;
use crate::db::engine::bulk_update::{RowChange, update_each};
use crate::db::engine::pinned::Kept;
use crate::db::engine::texts::Texts;
use crate::db::idempotency::{Claim, complete};
use crate::db::uploads::quota::Quota;
use crate::db::{DbError, Result, begin};
use crate::domain::upload::{State, TrackSlot};
use crate::domain::{Owner, TrackId, Upload};
use entity::{track, upload};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::Value;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait, ConnectionTrait as _, DatabaseTransaction, DbBackend,
    EntityTrait, Iterable as _, QueryFilter, QueryOrder, QuerySelect, QueryTrait as _,
};

/// How many creations share a commit at most: 22 columns each stay far below the 32,766
/// parameters of `SQLite` and the 65,535 of PostgreSQL.
const GROUP: usize = 256;

type Answer = Result<Option<Upload>>;

/// An upload that is to be created.
pub(in crate::db) struct Wanted {
    upload: Upload,
    /// The track that it is for.
    track: Option<TrackId>,
    /// The idempotency key that is completed with it.
    claim: Option<Claim>,
    /// The row's values, where nothing else is to be written or counted with it. Who asks makes
    /// them: what the task does, all the others of its group wait for.
    values: Option<Vec<Value>>,
}

impl Wanted {
    pub fn new(
        upload: Upload,
        track: Option<TrackId>,
        claim: Option<Claim>,
        quota: &Quota,
    ) -> Self {
        let new = matches!(upload.state, State::Pending)
            && upload.slot.is_none()
            && upload.multipart_id.is_none();
        let alone = track.is_none() && claim.is_none() && quota.is_empty() && new;
        let values = alone.then(|| values_of(lone_row(&upload)));
        Self { upload, track, claim, values }
    }
}

fn values_of(mut row: upload::ActiveModel) -> Vec<Value> {
    let columns = upload::Column::iter();
    let mut values = Vec::with_capacity(columns.len());
    values.extend(columns.filter_map(|column| row.take(column).into_value()));
    values
}

/// The way to the task that commits.
pub(in crate::db) type Creator = Grouped<Wanted, Option<Upload>>;

/// Starts the task that commits, on the ambient runtime. With a track an upload gets the next
/// number of the track's sequence and becomes its newest; `None` where the owner has no such
/// track. A caller that is dropped meanwhile leaves a pending row, which expires like any other.
pub(in crate::db) fn creator(writer: Kept, quota: Quota) -> Creator {
    let (writer, quota) = (Arc::new(writer), Arc::new(quota));
    let resting = Arc::clone(&writer);
    let inserts = Arc::new(Inserts::default());
    let work =
        move |wanted| commit(Arc::clone(&writer), Arc::clone(&quota), Arc::clone(&inserts), wanted);
    Grouped::start_resting("creating uploads", GROUP, work, move || resting.rest())
}

/// The statements that insert so many rows and nothing else, from one on. All of them together take
/// 2 MiB on `SQLite`, and 6 on PostgreSQL, which numbers its parameters.
type Inserts = Texts<GROUP>;

/// Commits a group; the answers are in its order.
async fn commit(
    writer: Arc<Kept>,
    quota: Arc<Quota>,
    inserts: Arc<Inserts>,
    mut wanted: Vec<Wanted>,
) -> Vec<Answer> {
    let done = if wanted.iter().all(|wanted| wanted.values.is_some()) {
        match insert_alone(&writer, &inserts, &mut wanted).await {
            Ok(()) => return wanted.into_iter().map(|wanted| Ok(Some(wanted.upload))).collect(),
            Err(error) => Err(error),
        }
    } else {
        insert(&writer, &quota, &wanted).await
    };
    match done {
        Ok(done) => done,
        Err(error) if wanted.len() == 1 => vec![Err(error)],
        // Whether this was committed is not known, and nobody should hear of a doubled id.
        Err(DbError::Unavailable(error)) => {
            tracing::warn!(
                creations = wanted.len(),
                error = &error as &dyn Error,
                "a group of uploads was not created"
            );
            wanted.iter().map(|_| Err(DbError::Busy)).collect()
        }
        // One of them is at fault: that one is to be told so, and its neighbours not.
        Err(_) => one_by_one(&writer, &quota, &wanted).await,
    }
}

async fn one_by_one(writer: &Kept, quota: &Quota, wanted: &[Wanted]) -> Vec<Answer> {
    let mut done: Vec<Answer> = Vec::with_capacity(wanted.len());
    for one in wanted {
        if matches!(done.last(), Some(Err(DbError::Unavailable(_) | DbError::Busy))) {
            done.push(Err(DbError::Busy));
            continue;
        }
        let inserted = insert(writer, quota, std::slice::from_ref(one)).await;
        done.push(inserted.and_then(|mut answers| answers.pop().unwrap_or(Ok(None))));
    }
    done
}

/// Commits all of them, where nothing else is to be written. A statement of its own is a transaction
/// of its own, for which `SQLite` need not keep how to undo the statement alone.
async fn insert_alone(writer: &Kept, inserts: &Inserts, wanted: &mut [Wanted]) -> Result<()> {
    let many = wanted.len();
    let sql = inserts.get(many - 1, || {
        // All rows leave out the same columns.
        let rows = (0..many).map(|_| lone_row(&wanted[0].upload));
        upload::Entity::insert_many(rows).build(writer.backend()).sql
    });
    let each = wanted[0].values.as_ref().map_or(0, Vec::len);
    let mut values = Vec::with_capacity(many * each);
    values.extend(wanted.iter_mut().filter_map(|wanted| wanted.values.take()).flatten());
    Ok(writer.execute(sql, values).await?)
}

/// Commits all of them; the answers are in their order. Without keys and quotas this takes
/// three statements at most, however many they are.
async fn insert(writer: &Kept, quota: &Quota, wanted: &[Wanted]) -> Result<Vec<Answer>> {
    let txn = begin(writer.pool()).await?;
    let mut tracks = lock_tracks(&txn, wanted).await?;
    if !quota.is_empty() {
        let owners = wanted.iter().map(|wanted| wanted.upload.owner.as_str()).collect();
        Quota::lock(&txn, &owners).await?;
    }
    let mut answers = Vec::with_capacity(wanted.len());
    let mut rows = Vec::with_capacity(wanted.len());
    for Wanted { upload, track, claim, values: _ } in wanted {
        match quota.check(&txn, upload).await {
            Ok(()) => {}
            Err(over @ DbError::OverQuota { .. }) => {
                answers.push(Err(over));
                continue;
            }
            Err(error) => return Err(error),
        }
        if track.is_some_and(|track| !tracks.contains_key(&(track, upload.owner.clone()))) {
            answers.push(Ok(None));
            continue;
        }
        if let Some(claim) = claim
            && !complete(&txn, claim).await?
        {
            answers.push(Err(DbError::Busy));
            continue;
        }
        let placed = place(upload, *track, &mut tracks);
        rows.extend(placed.as_ref().map(new_row));
        if !quota.is_empty() {
            // The next one of this owner is counted with it.
            write_rows(&txn, &mut rows).await?;
        }
        answers.push(Ok(placed));
    }
    write_rows(&txn, &mut rows).await?;
    write_tracks(&txn, tracks).await?;
    txn.commit().await?;
    Ok(answers)
}

/// The row of an upload of which nothing was seen yet: what would be NULL is left out.
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

/// The same of an upload that is written alone: it has no track, and not been opened in parts.
fn lone_row(upload: &Upload) -> upload::ActiveModel {
    upload::ActiveModel {
        track_id: NotSet,
        track_sequence: NotSet,
        multipart_id: NotSet,
        ..new_row(upload)
    }
}

/// Gives an upload the next number of its track; `None` where there is no such track.
fn place(upload: &Upload, track: Option<TrackId>, tracks: &mut Tracks) -> Option<Upload> {
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

async fn write_rows(txn: &DatabaseTransaction, rows: &mut Vec<upload::ActiveModel>) -> Result<()> {
    if !rows.is_empty() {
        upload::Entity::insert_many(rows.drain(..)).exec_without_returning(txn).await?;
    }
    Ok(())
}

async fn write_tracks(txn: &DatabaseTransaction, tracks: Tracks) -> Result<()> {
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
    all(&changes, update_each(txn, columns, &changes).await?)
}

type Tracks = HashMap<(TrackId, Owner), track::Model>;

/// Locks the tracks that are wanted, in the order of their ids as everywhere. A track is
/// found only under its owner.
async fn lock_tracks(txn: &DatabaseTransaction, wanted: &[Wanted]) -> Result<Tracks> {
    let ids: BTreeSet<_> = wanted.iter().filter_map(|wanted| wanted.track).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let query = track::Entity::find()
        .filter(track::Column::Id.is_in(ids.iter().map(|id| id.0)))
        .order_by_asc(track::Column::Id);
    let postgres = txn.get_database_backend() == DbBackend::Postgres;
    let query = if postgres { query.lock_exclusive() } else { query };
    let rows = query.all(txn).await?;
    let wanted: HashSet<_> = wanted
        .iter()
        .filter_map(|wanted| Some((wanted.track?, wanted.upload.owner.clone())))
        .collect();
    Ok(rows
        .into_iter()
        .map(|row| ((TrackId(row.id), Owner::named(&row.owner)), row))
        .filter(|(track, _)| wanted.contains(track))
        .collect())
}
