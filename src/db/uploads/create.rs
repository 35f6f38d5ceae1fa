//! New uploads, by group commit: creations that arrive while a commit is on its way share
//! the next one. An idle service commits a single one at once; there is no timer.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::error::Error;

use entity::{track, upload};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ColumnTrait, ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend,
    EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use tokio::sync::{mpsc, oneshot};

use super::row::to_row;
use crate::db::{DbError, Result, begin};
use crate::domain::upload::TrackSlot;
use crate::domain::{Owner, TrackId, Upload};

/// How many creations may wait for a commit. A commit takes milliseconds and
/// [`GROUP`] of them: what waits behind this many would be answered too late anyway.
const QUEUE: usize = 2048;

/// How many creations share a commit at most: 27 columns each stay below the 32,766
/// parameters of `SQLite` and the 65,535 of PostgreSQL.
const GROUP: usize = 256;

type Answer = Result<Option<Upload>>;

/// An upload that is to be created.
struct Creation {
    upload: Upload,
    track: Option<TrackId>,
    answer: oneshot::Sender<Answer>,
}

/// The way to the task that commits; the task ends with the last of these.
#[derive(Clone)]
pub(in crate::db) struct Creator(mpsc::Sender<Creation>);

impl Creator {
    /// Starts the task that commits, on the ambient runtime.
    pub(in crate::db) fn start(write: DatabaseConnection) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        tokio::spawn(commit_groups(write, queue));
        Self(sender)
    }

    /// Commits a new upload. With a track it gets the next number of the track's sequence
    /// and becomes its newest; `None` where the owner has no such track. A caller that is
    /// dropped meanwhile leaves a pending row, which expires like any other.
    pub(in crate::db) async fn create(&self, upload: Upload, track: Option<TrackId>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let creation = Creation { upload, track, answer };
        self.0.try_send(creation).map_err(|_| DbError::Busy)?;
        // The task drops an answer only when it was torn down with its runtime.
        answered.await.map_err(|_| DbError::Busy)?
    }
}

async fn commit_groups(write: DatabaseConnection, mut queue: mpsc::Receiver<Creation>) {
    let mut group = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut group, GROUP).await > 0 {
        let (wanted, answers): (Vec<_>, Vec<_>) = group
            .drain(..)
            .map(|Creation { upload, track, answer }| ((upload, track), answer))
            .unzip();
        let single = wanted.len() == 1;
        let done = match insert(&write, wanted.clone()).await {
            Ok(done) => done.into_iter().map(Ok).collect(),
            Err(error) if single => vec![Err(error)],
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
            Err(_) => one_by_one(&write, wanted).await,
        };
        for (answer, done) in answers.into_iter().zip(done) {
            // Nobody may be there to hear it any more.
            let _ = answer.send(done);
        }
    }
}

async fn one_by_one(
    write: &DatabaseConnection,
    wanted: Vec<(Upload, Option<TrackId>)>,
) -> Vec<Answer> {
    let mut done = Vec::with_capacity(wanted.len());
    for one in wanted {
        let inserted = insert(write, vec![one]).await;
        done.push(inserted.map(|rows| rows.into_iter().next().flatten()));
    }
    done
}

/// Commits all of them, in three statements and one for each track. The answers are in
/// the order of what is wanted.
async fn insert(
    write: &DatabaseConnection,
    wanted: Vec<(Upload, Option<TrackId>)>,
) -> Result<Vec<Option<Upload>>> {
    if let [(upload, None)] = wanted.as_slice() {
        // A statement of its own is a transaction of its own.
        upload::Entity::insert(to_row(upload)).exec_without_returning(write).await?;
        return Ok(wanted.into_iter().map(|(upload, _)| Some(upload)).collect());
    }
    let txn = begin(write).await?;
    let mut tracks = lock_tracks(&txn, &wanted).await?;
    let rows: Vec<_> = wanted
        .into_iter()
        .map(|(mut upload, track)| {
            let Some(id) = track else { return Some(upload) };
            let row = tracks.get_mut(&(id, upload.owner.clone()))?;
            upload.slot = Some(TrackSlot { track: id, sequence: row.next_sequence });
            row.next_sequence += 1;
            row.version += 1;
            row.latest_upload_id = Some(upload.id.0);
            upload.status().name().clone_into(&mut row.status);
            row.updated_at = row.updated_at.max(upload.created_at);
            Some(upload)
        })
        .collect();
    let new = rows.iter().flatten().map(to_row).collect::<Vec<_>>();
    if !new.is_empty() {
        upload::Entity::insert_many(new).exec_without_returning(&txn).await?;
    }
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
            .exec(&txn)
            .await?;
    }
    txn.commit().await?;
    Ok(rows)
}

/// Locks the tracks that are wanted, in the order of their ids as everywhere. A track is
/// found only under its owner.
async fn lock_tracks(
    txn: &DatabaseTransaction,
    wanted: &[(Upload, Option<TrackId>)],
) -> Result<HashMap<(TrackId, Owner), track::Model>> {
    let ids: BTreeSet<_> = wanted.iter().filter_map(|(_, track)| *track).collect();
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
        .filter_map(|(upload, track)| Some(((*track)?, upload.owner.clone())))
        .collect();
    Ok(rows
        .into_iter()
        .map(|row| ((TrackId(row.id), Owner::named(&row.owner)), row))
        .filter(|(track, _)| wanted.contains(track))
        .collect())
}
