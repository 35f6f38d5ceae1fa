//! The rows of subjects that a transaction has locked, and the changes that it will write to them.
//!
//! Lock order, to avoid deadlocks: tracks, then attachments, then uploads, each in the order of
//! their ids.
//!
//! The row of a track has copies of some columns of its attachment, so that lists of tracks can
//! filter and sort by them. The copies are written in the same transaction: see
//! [`tracks::copy_attachments`]. Tables of other records can do the same.

use std::collections::BTreeMap;

use entity::attachment::{self, Column};
use entity::track;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{ExprTrait as _, OnConflict};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, DatabaseTransaction, EntityTrait,
    IntoActiveModel as _, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::row::current_of;
use crate::db::engine::bulk_update::{RowChange, ensure_all, update_each};
use crate::db::{Result, tracks};
use crate::domain::attachment::{Binding, Current, EMPTY, bind};
use crate::domain::subject::Slot;
use crate::domain::{Owner, Subject, Timestamp, TrackId, Upload, UploadId};

/// The subjects to lock, by owner and subject. If a subject has no row yet, a row is inserted with
/// the id and creation time of the value; `None` inserts no row.
pub(in crate::db) type SubjectsToLock<'a> =
    BTreeMap<(&'a str, &'a Subject), Option<(Uuid, Timestamp)>>;

/// Subjects whose rows this transaction has locked, and their planned changes.
pub(in crate::db) struct LockedSubjects {
    rows: BTreeMap<(String, Subject), LockedSubject>,
    tracks: BTreeMap<TrackId, track::Model>,
}

/// A locked subject: its row as it was read, and as it will be written.
pub(in crate::db) struct LockedSubject {
    before: attachment::Model,
    after: attachment::Model,
    current: Option<Current>,
}

impl LockedSubjects {
    /// Locks and reads subjects. The subject of a track is left out if the track does not belong to
    /// the owner.
    pub(in crate::db) async fn lock(
        txn: &DatabaseTransaction,
        postgres: bool,
        mut to_lock: SubjectsToLock<'_>,
    ) -> Result<Self> {
        if to_lock.is_empty() {
            return Ok(Self { rows: BTreeMap::new(), tracks: BTreeMap::new() });
        }
        let ids = to_lock.keys().filter_map(|(_, subject)| Some(subject.track()?.0)).collect();
        let tracks: BTreeMap<_, _> = tracks::lock_all(txn, postgres, ids)
            .await?
            .into_iter()
            .map(|row| (TrackId(row.id), row))
            .collect();
        to_lock.retain(|(owner, subject), _| {
            subject.track().is_none_or(|id| tracks.get(&id).is_some_and(|row| row.owner == *owner))
        });
        let mut rows = read(txn, postgres, &to_lock).await?;
        to_lock.retain(|(owner, subject), new| {
            new.is_some() && !rows.contains_key(&((*owner).to_owned(), (*subject).clone()))
        });
        if !to_lock.is_empty() {
            insert(txn, &to_lock).await?;
            // Includes rows that another transaction inserted first.
            rows.extend(read(txn, postgres, &to_lock).await?);
        }
        let rows = rows
            .into_iter()
            .map(|(key, row)| {
                let current = current_of(&row)?;
                Ok((key, LockedSubject { before: row.clone(), after: row, current }))
            })
            .collect::<Result<_>>()?;
        Ok(Self { rows, tracks })
    }

    /// A subject of this owner, if it is locked.
    pub(in crate::db) fn get_mut(
        &mut self,
        owner: &Owner,
        subject: &Subject,
    ) -> Option<&mut LockedSubject> {
        self.rows.get_mut(&(owner.as_str().to_owned(), subject.clone()))
    }

    /// Like [`Self::get_mut`], for reading.
    pub(in crate::db) fn get(&self, owner: &Owner, subject: &Subject) -> Option<&LockedSubject> {
        self.rows.get(&(owner.as_str().to_owned(), subject.clone()))
    }

    /// Writes the changes.
    pub(in crate::db) async fn save(mut self, txn: &DatabaseTransaction) -> Result<()> {
        let mut changes = Vec::new();
        let mut copies = Vec::new();
        for ((_, subject), LockedSubject { before, after, .. }) in self.rows {
            if before == after {
                continue;
            }
            if let Some(track) = subject.track().and_then(|id| self.tracks.remove(&id)) {
                copies.push((track, after.clone()));
            }
            changes.push(RowChange {
                id: before.id,
                version: before.version,
                values: attachment::ActiveModel {
                    status: Set(after.status),
                    next_sequence: Set(after.next_sequence),
                    latest_upload_id: Set(after.latest_upload_id),
                    current_upload_id: Set(after.current_upload_id),
                    current_sequence: Set(after.current_sequence),
                    updated_at: Set(after.updated_at),
                    ..Default::default()
                },
            });
        }
        ensure_all(&changes, update_each(txn, (Column::Id, Column::Version), &changes).await?)?;
        tracks::copy_attachments(txn, copies).await
    }
}

impl LockedSubject {
    /// The current upload.
    pub(in crate::db) fn current(&self) -> Option<Current> {
        self.current
    }

    /// Gives an upload the next sequence number, and makes it the newest upload of the subject.
    pub(in crate::db) fn draw(&mut self, upload: &Upload) -> Slot {
        let sequence = self.after.next_sequence;
        self.after.next_sequence += 1;
        self.after.latest_upload_id = Some(upload.id.0);
        self.follow(upload);
        Slot { subject: Subject::stored(self.after.subject.clone()), sequence }
    }

    /// Makes an upload the current one, unless an upload with a higher sequence number is the
    /// current one.
    pub(in crate::db) fn bind(&mut self, upload: UploadId, sequence: i64) -> Binding {
        let binding = bind(self.current, upload, sequence);
        if matches!(binding, Binding::Take { .. }) {
            self.set_current(Some(Current { upload, sequence }));
        }
        binding
    }

    /// If this upload is the current one, leaves the subject without a current upload.
    pub(in crate::db) fn unbind(&mut self, upload: UploadId) {
        if self.current.is_some_and(|current| current.upload == upload) {
            self.set_current(None);
        }
    }

    /// Copies the status of this upload if it is the newest one, and sets the time of the change if
    /// the row changes.
    pub(in crate::db) fn follow(&mut self, upload: &Upload) {
        if self.after.latest_upload_id == Some(upload.id.0) {
            upload.status().name().clone_into(&mut self.after.status);
        }
        if self.before != self.after {
            self.after.updated_at = Ord::max(self.after.updated_at, upload.updated_at);
        }
    }

    /// Removes the newest and the current upload from the subject.
    pub(in crate::db) fn clear(&mut self) {
        EMPTY.clone_into(&mut self.after.status);
        self.after.latest_upload_id = None;
        self.set_current(None);
    }

    fn set_current(&mut self, current: Option<Current>) {
        self.current = current;
        self.after.current_upload_id = current.map(|current| current.upload.0);
        self.after.current_sequence = current.map(|current| current.sequence);
    }
}

type Rows = BTreeMap<(String, Subject), attachment::Model>;

async fn read(
    txn: &DatabaseTransaction,
    postgres: bool,
    to_lock: &SubjectsToLock<'_>,
) -> Result<Rows> {
    let subjects = |of: &str| {
        let of = of.to_owned();
        let names = to_lock.keys().filter(move |(owner, _)| *owner == of);
        names.map(|(_, subject)| subject.as_str()).collect::<Vec<_>>()
    };
    let mut owners: Vec<&str> = to_lock.keys().map(|(owner, _)| *owner).collect();
    owners.dedup();
    let mut any = Condition::any();
    for owner in owners {
        let of_owner = Column::Subject.is_in(subjects(owner));
        any = any.add(Column::Owner.eq(owner).and(of_owner));
    }
    let query = attachment::Entity::find().filter(any).order_by_asc(Column::Id);
    let query = if postgres { query.lock_exclusive() } else { query };
    let rows = query.all(txn).await?;
    let key = |row: &attachment::Model| (row.owner.clone(), Subject::stored(row.subject.clone()));
    Ok(rows.into_iter().map(|row| (key(&row), row)).collect())
}

/// Inserts the rows that no other transaction inserted first.
async fn insert(txn: &DatabaseTransaction, to_lock: &SubjectsToLock<'_>) -> Result<()> {
    let rows = to_lock.iter().filter_map(|((owner, subject), new)| {
        let (id, at) = (*new)?;
        let row = attachment::Model {
            id,
            owner: (*owner).to_owned(),
            subject: subject.as_str().to_owned(),
            status: EMPTY.to_owned(),
            next_sequence: 1,
            latest_upload_id: None,
            current_upload_id: None,
            current_sequence: None,
            version: 1,
            created_at: at,
            updated_at: at,
        };
        Some(row.into_active_model())
    });
    attachment::Entity::insert_many(rows.map(ActiveModelTrait::reset_all))
        .on_conflict(OnConflict::columns([Column::Owner, Column::Subject]).do_nothing().to_owned())
        .exec_without_returning(txn)
        .await?;
    Ok(())
}
