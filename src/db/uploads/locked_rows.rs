//! Changes that share a transaction. First all affected rows are locked and read. Then each change
//! is applied to these rows in memory. At the end, a few statements write all of them.
//!
//! The subjects are locked before the uploads, see [`LockedSubjects`].

use std::collections::{BTreeSet, HashMap, HashSet};

use entity::upload;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult, QueryFilter,
    QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::change::{Change, Saved};
use super::history::{self, NewStatusChange};
use super::row::to_change;
use crate::db::Result;
use crate::db::attachments::locked_subjects::{LockedSubjects, SubjectsToLock};
use crate::db::engine::bulk_update::{RowChange, ensure_all, update_each};
use crate::db::inspections;
use crate::db::multipart_aborts::{self, NewAbort};
use crate::db::object_copies;
use crate::db::webhooks::Outbox;
use crate::domain::attachment::Binding;
use crate::domain::history::Cause;
use crate::domain::transition::{Effect, Event, step};
use crate::domain::{ObjectCopy, Policy, Status, Timestamp, Upload};

/// The locked rows, and the writes that are planned for them.
pub(super) struct LockedRows {
    uploads: HashMap<Uuid, Before>,
    /// Verified uploads that may be superseded.
    current: HashMap<Uuid, Upload>,
    subjects: LockedSubjects,
    writes: Vec<Write>,
    /// Uploads that change the queue of inspections, with the effects.
    inspected: Vec<(Upload, Vec<Effect>)>,
    /// Uploads that were moved, with the objects that they leave behind.
    moved: Vec<(Upload, ObjectCopy)>,
}

/// The columns of a row that are needed before it is changed: the version, to notice other changes,
/// and the multipart id, because a lost multipart upload must be aborted.
#[derive(Debug, Clone, FromQueryResult)]
struct Before {
    id: Uuid,
    version: i64,
    multipart_id: Option<String>,
}

impl Before {
    fn of(upload: &Upload) -> Self {
        Self { id: upload.id.0, version: upload.version, multipart_id: upload.multipart_id.clone() }
    }
}

/// An upload to write.
struct Write {
    upload: Upload,
    /// The status before, if the status changes.
    from: Option<Status>,
    /// The reason of the change.
    cause: Cause,
    /// The id of the multipart upload, if the row loses it.
    left: Option<String>,
}

impl Write {
    /// The change of the status, if the status changes.
    fn status_change(&self) -> Option<NewStatusChange<'_>> {
        let Self { upload, from, cause, left: _ } = self;
        Some(NewStatusChange { upload, from: (*from)?, cause })
    }
}

impl LockedRows {
    /// Locks and reads the rows of the changes.
    pub(super) async fn lock(
        txn: &DatabaseTransaction,
        postgres: bool,
        changes: &[Change<'_>],
    ) -> Result<Self> {
        let subjects = LockedSubjects::lock(txn, postgres, subjects_to_lock(changes)).await?;
        let ids = changes.iter().map(|change| change.upload.id.0);
        let query = upload::Entity::find()
            .select_only()
            .columns([upload::Column::Id, upload::Column::Version, upload::Column::MultipartId])
            .filter(upload::Column::Id.is_in(ids))
            .order_by_asc(upload::Column::Id);
        let query = if postgres { query.lock_exclusive() } else { query };
        let rows: Vec<Before> = query.into_model().all(txn).await?;
        let mut uploads: HashMap<_, _> = rows.into_iter().map(|row| (row.id, row)).collect();
        // The current uploads of the subjects. No other transaction writes their rows, because the
        // subjects are locked.
        let binds = changes.iter().filter(|change| change.effects.contains(&Effect::Bind));
        let replaced: BTreeSet<Uuid> = binds
            .filter_map(|Change { upload, .. }| subjects.get(&upload.owner, upload.subject()?))
            .filter_map(|subject| Some(subject.current()?.upload.0))
            .collect();
        let mut current = HashMap::new();
        if !replaced.is_empty() {
            let query = upload::Entity::find().filter(upload::Column::Id.is_in(replaced));
            for row in query.all(txn).await? {
                let row: Upload = row.try_into()?;
                uploads.insert(row.id.0, Before::of(&row));
                current.insert(row.id.0, row);
            }
        }
        let (writes, inspected, moved) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { uploads, current, subjects, writes, inspected, moved })
    }

    /// Plans a change. Returns its result, and the result for the upload that it supersedes.
    pub(super) fn add(&mut self, change: Change<'_>, now: Timestamp) -> (Saved, Option<Saved>) {
        let Change { mut upload, effects, policy, from, cause, left_behind } = change;
        if self.uploads.get(&upload.id.0).is_none_or(|row| row.version != upload.version) {
            return (Saved::Lost, None);
        }
        self.moved.extend(left_behind.map(|copy| (upload.clone(), copy)));
        if inspections::concerns(&effects) {
            self.inspected.push((upload.clone(), effects.clone()));
        }
        let Some(slot) = upload.slot.clone() else {
            return (Saved::Done(self.write(upload, from, cause)), None);
        };
        let Some(subject) = self.subjects.get_mut(&upload.owner, &slot.subject) else {
            // The track was deleted, so the upload is not attached.
            let attaches = effects.contains(&Effect::Attach);
            if attaches {
                return (Saved::Lost, None);
            }
            return (Saved::Done(self.write(upload, from, cause)), None);
        };
        let mut sequence = slot.sequence;
        if effects.contains(&Effect::Attach) {
            let drawn = subject.draw(&upload);
            sequence = drawn.sequence;
            upload.slot = Some(drawn);
        }
        let mut superseded = None;
        if effects.contains(&Effect::Bind) {
            match subject.bind(upload.id, sequence) {
                Binding::Take { supersedes } => superseded = supersedes,
                Binding::Yield => upload = supersede(upload, now, policy),
            }
        }
        if effects.contains(&Effect::Unbind) {
            subject.unbind(upload.id);
        }
        subject.follow(&upload);
        let replaced = Cause {
            by: cause.by.clone(),
            detail: Some(format!("Replaced by the upload {}", upload.id)),
        };
        let upload = self.write(upload, from, cause);
        let old = superseded.and_then(|old| self.current.get(&old.0).cloned());
        let old = old.map(|old| {
            let from = old.status();
            Saved::Done(self.write(supersede(old, now, policy), from, replaced))
        });
        (Saved::Done(upload), old)
    }

    /// Plans a row's next version. Later changes of the same row in this transaction build on it.
    /// `from` is the status before the change. It is not compared with the row, because the version
    /// is.
    fn write(&mut self, mut upload: Upload, from: Status, cause: Cause) -> Upload {
        upload.version += 1;
        let before = self.uploads.insert(upload.id.0, Before::of(&upload));
        if upload.slot.is_some() {
            self.current.insert(upload.id.0, upload.clone());
        }
        let from = Some(from).filter(|from| *from != upload.status());
        // If the row loses its multipart upload, for whatever reason, the multipart upload is
        // aborted.
        let left = before.and_then(|before| before.multipart_id);
        let left = left.filter(|left| upload.multipart_id.as_ref() != Some(left));
        self.writes.push(Write { upload: upload.clone(), from, cause, left });
        upload
    }

    /// Writes the planned changes.
    pub(super) async fn save(self, txn: &DatabaseTransaction, outbox: &Outbox) -> Result<()> {
        let mut remaining: Vec<&Upload> = self.writes.iter().map(|write| &write.upload).collect();
        // A statement changes each row once. A row that becomes verified and then superseded needs
        // two statements.
        while !remaining.is_empty() {
            let mut seen = HashSet::new();
            let (these, later): (Vec<_>, Vec<_>) =
                remaining.into_iter().partition(|upload| seen.insert(upload.id));
            ensure_all(&these, update(txn, &these).await?)?;
            remaining = later;
        }
        let status_changes: Vec<_> = self.writes.iter().filter_map(Write::status_change).collect();
        outbox.add(txn, status_changes.iter().map(|change| change.upload)).await?;
        history::add(txn, status_changes).await?;
        let left = self.writes.iter().filter_map(|Write { upload, left, .. }| {
            Some(NewAbort { upload, multipart_id: left.clone()?, due: upload.updated_at })
        });
        multipart_aborts::add(txn, left).await?;
        inspections::write(txn, &self.inspected).await?;
        let moved: Vec<_> = self.moved.iter().map(|(upload, copy)| (upload, copy)).collect();
        object_copies::record_moves(txn, &moved).await?;
        self.subjects.save(txn).await
    }
}

/// The subjects of the changes. A change that attaches an upload creates its subject.
fn subjects_to_lock<'a>(changes: &'a [Change<'_>]) -> SubjectsToLock<'a> {
    let mut to_lock = SubjectsToLock::new();
    for Change { upload, effects, .. } in changes {
        let Some(subject) = upload.subject() else { continue };
        let new = to_lock.entry((upload.owner.as_str(), subject)).or_insert(None);
        if effects.contains(&Effect::Attach) {
            // The new row of a subject can use the id of the upload: an upload has at most one
            // subject.
            *new = new.or(Some((upload.id.0, upload.updated_at)));
        }
    }
    to_lock
}

/// Writes uploads whose versions were raised, if the rows still have the versions that were read.
/// Returns the number of written rows.
pub(super) async fn update(connection: &impl ConnectionTrait, uploads: &[&Upload]) -> Result<u64> {
    let changes: Vec<_> = uploads
        .iter()
        .map(|upload| RowChange {
            id: upload.id.0,
            version: upload.version - 1,
            values: to_change(upload),
        })
        .collect();
    update_each(connection, (upload::Column::Id, upload::Column::Version), &changes).await
}

fn supersede(upload: Upload, now: Timestamp, policy: &Policy) -> Upload {
    // The transition is refused only for an upload that was never verified. Such an upload is never
    // superseded.
    step(upload.clone(), Event::Supersede, now, policy).map_or(upload, |step| step.upload)
}
