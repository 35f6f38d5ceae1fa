//! Changes that share a transaction. All affected rows are locked and read first, each change is
//! decided on these rows, and the rows are written in a few statements, whatever their number.
//!
//! Lock order, so that no two transactions wait for each other: tracks, then uploads, each
//! in the order of their ids.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use entity::{track, upload};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult, QueryFilter,
    QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::change::{Change, Saved};
use super::row::to_change;
use crate::db::Result;
use crate::db::engine::bulk_update::{RowChange, ensure_all, update_each};
use crate::db::multipart_aborts::{self, NewAbort};
use crate::db::tracks::{bound_of, lock_all};
use crate::db::webhooks::Outbox;
use crate::domain::track::{Binding, Bound, bind};
use crate::domain::transition::{Effect, Event, step};
use crate::domain::{Policy, Timestamp, Upload};

/// The locked rows, and the writes that are planned for them.
pub(super) struct LockedRows {
    uploads: HashMap<Uuid, Before>,
    /// Verified uploads that may be superseded.
    bound: HashMap<Uuid, Upload>,
    tracks: BTreeMap<Uuid, Track>,
    writes: Vec<Write>,
}

/// The part of a row that is compared before it is written.
#[derive(Debug, Clone, FromQueryResult)]
struct Before {
    id: Uuid,
    version: i64,
    status: String,
    multipart_id: Option<String>,
}

impl Before {
    fn of(upload: &Upload) -> Self {
        Self {
            id: upload.id.0,
            version: upload.version,
            status: upload.status().name().to_owned(),
            multipart_id: upload.multipart_id.clone(),
        }
    }
}

/// A track, and its planned state.
struct Track {
    row: track::Model,
    before: Option<Bound>,
    bound: Option<Bound>,
    status: String,
}

impl Track {
    fn change(self, now: Timestamp) -> RowChange<track::ActiveModel> {
        let Self { row, before: _, bound, status } = self;
        let values = track::ActiveModel {
            bound_upload_id: Set(bound.map(|b| b.upload.0)),
            bound_sequence: Set(bound.map(|b| b.sequence)),
            status: Set(status),
            updated_at: Set(now),
            ..Default::default()
        };
        RowChange { id: row.id, version: row.version, values }
    }
}

/// An upload to write.
struct Write {
    upload: Upload,
    /// Whether its status changes.
    is_news: bool,
    /// The multipart upload whose id its row loses.
    left: Option<String>,
}

impl LockedRows {
    /// Locks and reads the rows of the changes.
    pub(super) async fn lock(
        txn: &DatabaseTransaction,
        postgres: bool,
        changes: &[Change<'_>],
    ) -> Result<Self> {
        let slots = changes.iter().filter_map(|change| change.upload.slot);
        let ids: BTreeSet<Uuid> = slots.map(|slot| slot.track.0).collect();
        let mut tracks = BTreeMap::new();
        for row in lock_all(txn, postgres, ids).await? {
            let (bound, status) = (bound_of(&row)?, row.status.clone());
            tracks.insert(row.id, Track { row, before: bound, bound, status });
        }
        let ids = changes.iter().map(|change| change.upload.id.0);
        let query = upload::Entity::find()
            .select_only()
            .columns([upload::Column::Id, upload::Column::Version])
            .columns([upload::Column::Status, upload::Column::MultipartId])
            .filter(upload::Column::Id.is_in(ids))
            .order_by_asc(upload::Column::Id);
        let query = if postgres { query.lock_exclusive() } else { query };
        let rows: Vec<Before> = query.into_model().all(txn).await?;
        let mut uploads: HashMap<_, _> = rows.into_iter().map(|row| (row.id, row)).collect();
        // Their tracks are locked, so no other transaction writes these.
        let binds = changes.iter().filter(|change| change.effects.contains(&Effect::Bind));
        let replaced: BTreeSet<Uuid> = binds
            .filter_map(|change| tracks.get(&change.upload.slot?.track.0)?.bound)
            .map(|bound| bound.upload.0)
            .collect();
        let mut bound = HashMap::new();
        if !replaced.is_empty() {
            let query = upload::Entity::find().filter(upload::Column::Id.is_in(replaced));
            for row in query.all(txn).await? {
                let row: Upload = row.try_into()?;
                uploads.insert(row.id.0, Before::of(&row));
                bound.insert(row.id.0, row);
            }
        }
        Ok(Self { uploads, bound, tracks, writes: Vec::new() })
    }

    /// Decides what becomes of a change, and of the upload that it supersedes.
    pub(super) fn add(&mut self, change: Change<'_>, now: Timestamp) -> (Saved, Option<Saved>) {
        let Change { mut upload, effects, policy } = change;
        if self.uploads.get(&upload.id.0).is_none_or(|row| row.version != upload.version) {
            return (Saved::Lost, None);
        }
        let track = upload.slot.and_then(|slot| Some((slot, self.tracks.get(&slot.track.0)?)));
        // A track is found only under its owner.
        let track = track.filter(|(_, track)| track.row.owner == upload.owner.as_str());
        let Some((slot, track)) = track else { return (Saved::Done(self.write(upload)), None) };
        let mut bound = track.bound;
        let mut superseded = None;
        if effects.contains(&Effect::Bind) {
            match bind(bound, upload.id, slot.sequence) {
                Binding::Take { supersedes } => {
                    superseded = supersedes;
                    bound = Some(Bound { upload: upload.id, sequence: slot.sequence });
                }
                Binding::Yield => upload = supersede(upload, now, policy),
            }
        }
        if effects.contains(&Effect::Unbind) && bound.is_some_and(|b| b.upload == upload.id) {
            bound = None;
        }
        let upload = self.write(upload);
        let old = superseded.and_then(|old| self.bound.get(&old.0).cloned());
        let old = old.map(|old| Saved::Done(self.write(supersede(old, now, policy))));
        if let Some(track) = self.tracks.get_mut(&slot.track.0) {
            track.bound = bound;
            if track.row.latest_upload_id == Some(upload.id.0) {
                upload.status().name().clone_into(&mut track.status);
            }
        }
        (Saved::Done(upload), old)
    }

    /// Plans a row's next version. Later changes build on it.
    fn write(&mut self, mut upload: Upload) -> Upload {
        upload.version += 1;
        let after = Before::of(&upload);
        let before = self.uploads.insert(upload.id.0, after.clone());
        if upload.slot.is_some() {
            self.bound.insert(upload.id.0, upload.clone());
        }
        let is_news = before.as_ref().is_some_and(|before| before.status != after.status);
        // However the row loses the id, the parts are still aborted.
        let left = before.and_then(|before| before.multipart_id);
        let left = left.filter(|left| upload.multipart_id.as_ref() != Some(left));
        self.writes.push(Write { upload: upload.clone(), is_news, left });
        upload
    }

    /// Writes the planned changes.
    pub(super) async fn save(
        self,
        txn: &DatabaseTransaction,
        outbox: &Outbox,
        now: Timestamp,
    ) -> Result<()> {
        let mut rest: Vec<&Upload> = self.writes.iter().map(|write| &write.upload).collect();
        // A statement changes a row once. A row that is verified and superseded takes two statements.
        while !rest.is_empty() {
            let mut seen = HashSet::new();
            let (these, later): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|upload| seen.insert(upload.id));
            ensure_all(&these, update(txn, &these).await?)?;
            rest = later;
        }
        let news = self.writes.iter().filter(|write| write.is_news).map(|write| &write.upload);
        outbox.add(txn, news).await?;
        let left = self.writes.iter().filter_map(|Write { upload, left, .. }| {
            Some(NewAbort { upload, multipart_id: left.clone()?, due: upload.updated_at })
        });
        multipart_aborts::add(txn, left).await?;
        let tracks: Vec<_> = self
            .tracks
            .into_values()
            .filter(|track| track.bound != track.before || track.status != track.row.status)
            .map(|track| track.change(now))
            .collect();
        let columns = (track::Column::Id, track::Column::Version);
        ensure_all(&tracks, update_each(txn, columns, &tracks).await?)
    }
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
    // Refused only for an upload that was never verified, which is never bound.
    step(upload.clone(), Event::Supersede, now, policy).map_or(upload, |step| step.upload)
}
