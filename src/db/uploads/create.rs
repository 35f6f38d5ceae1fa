//! New uploads, by group commit: creations that arrive while a commit is on its way share
//! the next one. An idle service commits a single one at once; there is no timer.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use entity::{track, upload};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ColumnTrait, ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend,
    EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use tokio::sync::{mpsc, oneshot};

use super::row::to_row;
use crate::db::idempotency::{Claim, complete};
use crate::db::quota::Quota;
use crate::db::{DbError, Result, begin};
use crate::domain::upload::TrackSlot;
use crate::domain::{Owner, TrackId, Upload};

/// How many creations may wait for a commit. A commit takes milliseconds and
/// [`GROUP`] of them: what waits behind this many would be answered too late anyway.
const QUEUE: usize = 2048;

/// How many creations share a commit at most: 33 columns each stay below the 32,766
/// parameters of `SQLite` and the 65,535 of PostgreSQL.
const GROUP: usize = 256;

/// How long a group may take: less than an idempotency key's lease. A database that is cut
/// off in the middle of a transaction is else waited for until the kernel gives up.
const PATIENCE: Duration = Duration::from_secs(15);

type Answer = Result<Option<Upload>>;

/// An upload that is to be created.
#[derive(Clone)]
pub(in crate::db) struct Wanted {
    pub upload: Upload,
    /// The track that it is for.
    pub track: Option<TrackId>,
    /// The idempotency key that is completed with it.
    pub claim: Option<Claim>,
}

type Creation = (Wanted, oneshot::Sender<Answer>);

/// The way to the task that commits; the task ends with the last of these.
#[derive(Clone)]
pub(in crate::db) struct Creator(mpsc::Sender<Creation>);

impl Creator {
    /// Starts the task that commits, on the ambient runtime.
    pub(in crate::db) fn start(write: DatabaseConnection, quota: Quota) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        tokio::spawn(commit_groups(write, quota, queue));
        Self(sender)
    }

    /// Commits a new upload. With a track it gets the next number of the track's sequence
    /// and becomes its newest; `None` where the owner has no such track. A caller that is
    /// dropped meanwhile leaves a pending row, which expires like any other.
    pub(in crate::db) async fn create(&self, wanted: Wanted) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.0.try_send((wanted, answer)).map_err(|_| DbError::Busy)?;
        // An answer is dropped with its group, or with the runtime.
        answered.await.map_err(|_| DbError::Busy)?
    }
}

async fn commit_groups(
    write: DatabaseConnection,
    quota: Quota,
    mut queue: mpsc::Receiver<Creation>,
) {
    let quota = Arc::new(quota);
    let mut group = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut group, GROUP).await > 0 {
        let (wanted, answers): (Vec<Wanted>, Vec<_>) = group.drain(..).unzip();
        // In a task of its own: whatever becomes of this group, the next one has its turn.
        let work = tokio::spawn(commit(write.clone(), Arc::clone(&quota), wanted));
        let abort = work.abort_handle();
        if let Ok(Ok(done)) = tokio::time::timeout(PATIENCE, work).await {
            for (answer, done) in answers.into_iter().zip(done) {
                // Nobody may be there to hear it any more.
                let _ = answer.send(done);
            }
        } else {
            // Those who wait are told that their answers were dropped.
            abort.abort();
            tracing::error!(creations = answers.len(), "a group of uploads was given up");
        }
    }
}

/// Commits a group; the answers are in its order.
async fn commit(write: DatabaseConnection, quota: Arc<Quota>, wanted: Vec<Wanted>) -> Vec<Answer> {
    match insert(&write, &quota, &wanted).await {
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
        Err(_) => one_by_one(&write, &quota, &wanted).await,
    }
}

async fn one_by_one(write: &DatabaseConnection, quota: &Quota, wanted: &[Wanted]) -> Vec<Answer> {
    let mut done: Vec<Answer> = Vec::with_capacity(wanted.len());
    for one in wanted {
        if matches!(done.last(), Some(Err(DbError::Unavailable(_) | DbError::Busy))) {
            done.push(Err(DbError::Busy));
            continue;
        }
        let inserted = insert(write, quota, std::slice::from_ref(one)).await;
        done.push(inserted.and_then(|mut answers| answers.pop().unwrap_or(Ok(None))));
    }
    done
}

/// Commits all of them; the answers are in their order. Without keys and quotas this takes
/// three statements and one for each track.
async fn insert(
    write: &DatabaseConnection,
    quota: &Quota,
    wanted: &[Wanted],
) -> Result<Vec<Answer>> {
    if let [Wanted { upload, track: None, claim: None }] = wanted
        && quota.is_empty()
    {
        // A statement of its own is a transaction of its own.
        upload::Entity::insert(to_row(upload)).exec_without_returning(write).await?;
        return Ok(vec![Ok(Some(upload.clone()))]);
    }
    let txn = begin(write).await?;
    let mut tracks = lock_tracks(&txn, wanted).await?;
    if !quota.is_empty() {
        let owners = wanted.iter().map(|wanted| wanted.upload.owner.as_str()).collect();
        Quota::lock(&txn, &owners).await?;
    }
    let mut answers = Vec::with_capacity(wanted.len());
    let mut rows = Vec::with_capacity(wanted.len());
    for Wanted { upload, track, claim } in wanted {
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
        rows.extend(placed.as_ref().map(to_row));
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

/// Gives an upload the next number of its track; `None` where there is no such track.
fn place(upload: &Upload, track: Option<TrackId>, tracks: &mut Tracks) -> Option<Upload> {
    let mut upload = upload.clone();
    let Some(id) = track else { return Some(upload) };
    let row = tracks.get_mut(&(id, upload.owner.clone()))?;
    upload.slot = Some(TrackSlot { track: id, sequence: row.next_sequence });
    row.next_sequence += 1;
    row.version += 1;
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
    for row in tracks.into_values() {
        track::Entity::update_many()
            .set(track::ActiveModel {
                next_sequence: Set(row.next_sequence),
                latest_upload_id: Set(row.latest_upload_id),
                status: Set(row.status),
                version: Set(row.version),
                updated_at: Set(row.updated_at),
                ..Default::default()
            })
            .filter(track::Column::Id.eq(row.id))
            .exec(txn)
            .await?;
    }
    Ok(())
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
