//! Saving what transitions decided, with the track's side of it in the same transaction.

use std::collections::BTreeMap;

use entity::{track, upload};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult, QueryFilter,
    QuerySelect,
};
use uuid::Uuid;

use super::row::to_change;
use crate::db::aborts;
use crate::db::outbox::Outbox;
use crate::db::tracks::{bound_of, lock};
use crate::db::{Db, Result};
use crate::domain::track::{Binding, Bound, bind};
use crate::domain::transition::{Effect, Event, step};
use crate::domain::upload::{Strategy, TrackSlot};
use crate::domain::{Policy, Timestamp, Upload};
use crate::telemetry::metrics as names;

/// A decided change of an upload, not yet saved.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    /// The upload after the transition; its `version` is the one that was read.
    pub upload: Upload,
    /// What is to be done besides.
    pub effects: Vec<Effect>,
    /// The rules it is under.
    pub policy: &'a Policy,
}

/// What became of a change.
#[derive(Debug, Clone)]
pub enum Saved {
    /// It is committed, as this. A verified upload that a newer one had overtaken is
    /// `removed` here.
    Done(Upload),
    /// Somebody else wrote the row first: read it again and decide again.
    Lost,
}

impl Db {
    /// Saves one change.
    pub async fn save_upload(&self, change: Change<'_>, now: Timestamp) -> Result<Saved> {
        if change.upload.slot.is_none() && self.outbox.is_empty() && !has_parts(&change.upload) {
            let saved = write(&self.write, &self.outbox, change.upload).await?;
            self.tell(&saved);
            return Ok(saved);
        }
        let saved = self.save_uploads(vec![change], now).await?;
        Ok(saved.into_iter().next().unwrap_or(Saved::Lost))
    }

    /// Saves several changes of different uploads in one transaction, each guarded for
    /// itself: one lost race leaves the others be. The answers are in the changes' order.
    pub async fn save_uploads(
        &self,
        changes: Vec<Change<'_>>,
        now: Timestamp,
    ) -> Result<Vec<Saved>> {
        let txn = self.begin().await?;
        let (saved, superseded) = self.save_in(&txn, changes, now).await?;
        txn.commit().await?;
        self.tell_all(&saved, &superseded);
        Ok(saved)
    }

    /// Saves several changes within a transaction; besides, what became of the uploads that
    /// they replace. To be told after the commit.
    pub(in crate::db) async fn save_in(
        &self,
        txn: &DatabaseTransaction,
        changes: Vec<Change<'_>>,
        now: Timestamp,
    ) -> Result<(Vec<Saved>, Vec<Saved>)> {
        let mut order: Vec<usize> = (0..changes.len()).collect();
        // Rows are locked in one order everywhere, so that no two transactions deadlock.
        order.sort_by_key(|i| {
            let upload = &changes[*i].upload;
            // Of one track the older first: a newer one that is verified ends it.
            (upload.slot.map(|slot| (slot.track, slot.sequence)), upload.id)
        });
        let mut answers = BTreeMap::new();
        let mut changes: Vec<Option<Change<'_>>> = changes.into_iter().map(Some).collect();
        let mut superseded = Vec::new();
        for i in order {
            let Some(change) = changes[i].take() else { continue };
            let saved = match change.upload.slot {
                None => write(txn, &self.outbox, change.upload).await?,
                Some(slot) => {
                    let (saved, old) = self.save_with_track(txn, change, slot, now).await?;
                    superseded.extend(old);
                    saved
                }
            };
            answers.insert(i, saved);
        }
        Ok((answers.into_values().collect(), superseded))
    }

    /// Tells those who wait, and the metrics, what is committed.
    pub(in crate::db) fn tell_all(&self, saved: &[Saved], superseded: &[Saved]) {
        saved.iter().chain(superseded).for_each(|saved| self.tell(saved));
        for saved in superseded {
            if let Saved::Done(upload) = saved {
                let (policy, status) = (upload.policy.as_str().to_owned(), upload.status().name());
                metrics::counter!(names::TRANSITIONS,
                    "policy" => policy, "status" => status, "source" => "superseded")
                .increment(1);
            }
        }
    }

    /// Tells those who wait what is committed.
    pub(in crate::db) fn tell(&self, saved: &Saved) {
        if let Saved::Done(upload) = saved {
            self.changes.publish(upload);
            self.outbox.ring();
        }
    }

    /// Saves a change with its track; besides, what became of the upload that it replaces.
    async fn save_with_track(
        &self,
        txn: &DatabaseTransaction,
        change: Change<'_>,
        slot: TrackSlot,
        now: Timestamp,
    ) -> Result<(Saved, Option<Saved>)> {
        let Change { mut upload, effects, policy } = change;
        let Some(row) = lock(txn, self.is_postgres(), &upload.owner, slot.track).await? else {
            return Ok((write(txn, &self.outbox, upload).await?, None));
        };
        let before = bound_of(&row)?;
        let mut bound = before;
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
        let Saved::Done(upload) = write(txn, &self.outbox, upload).await? else {
            return Ok((Saved::Lost, None));
        };
        let old = match superseded {
            Some(old) => remove_superseded(txn, &self.outbox, old.0, now, policy).await?,
            None => None,
        };
        let newest = row.latest_upload_id == Some(upload.id.0);
        let status = if newest { upload.status().name().to_owned() } else { row.status.clone() };
        if bound != before || status != row.status {
            update_track(txn, &row, bound, status, now).await?;
        }
        Ok((Saved::Done(upload), old))
    }
}

/// Writes the row where its version is still the one that was read, and the news of a new
/// status.
async fn write(
    connection: &impl ConnectionTrait,
    outbox: &Outbox,
    mut upload: Upload,
) -> Result<Saved> {
    let read = upload.version;
    let ask = has_parts(&upload) || !outbox.is_empty();
    let before = if ask { Before::read(connection, &upload).await? } else { None };
    upload.version += 1;
    let change = upload::ActiveModel { version: Set(upload.version), ..to_change(&upload) };
    let done = upload::Entity::update_many()
        .set(change)
        .filter(upload::Column::Id.eq(upload.id.0))
        .filter(upload::Column::Version.eq(read))
        .exec(connection)
        .await?;
    if done.rows_affected != 1 {
        return Ok(Saved::Lost);
    }
    if let Some(before) = before {
        if before.status != upload.status().name() {
            outbox.add(connection, &upload).await?;
        }
        // By whatever way the row loses the id, the parts are not lost with it.
        if let Some(left) = before.multipart_id
            && upload.multipart_id.as_ref() != Some(&left)
        {
            aborts::add(connection, &upload, &left, upload.updated_at).await?;
        }
    }
    Ok(Saved::Done(upload))
}

/// Whether its bytes may come in parts.
fn has_parts(upload: &Upload) -> bool {
    match upload.strategy {
        Strategy::Multipart | Strategy::Direct => true,
        Strategy::Put | Strategy::Post => false,
    }
}

/// What a row was before it is written.
#[derive(FromQueryResult)]
struct Before {
    status: String,
    multipart_id: Option<String>,
}

impl Before {
    async fn read(connection: &impl ConnectionTrait, upload: &Upload) -> Result<Option<Self>> {
        let query = upload::Entity::find_by_id(upload.id.0).select_only();
        let query = query.columns([upload::Column::Status, upload::Column::MultipartId]);
        // Another version is another writer's: then nothing is written here.
        let query = query.filter(upload::Column::Version.eq(upload.version));
        Ok(query.into_model().one(connection).await?)
    }
}

/// Ends the upload that was bound before. Its track is locked, so nobody else writes it.
async fn remove_superseded(
    txn: &DatabaseTransaction,
    outbox: &Outbox,
    id: Uuid,
    now: Timestamp,
    policy: &Policy,
) -> Result<Option<Saved>> {
    let Some(row) = upload::Entity::find_by_id(id).one(txn).await? else { return Ok(None) };
    write(txn, outbox, supersede(row.try_into()?, now, policy)).await.map(Some)
}

fn supersede(upload: Upload, now: Timestamp, policy: &Policy) -> Upload {
    // Refused only for an upload that was never verified, which is never bound.
    step(upload.clone(), Event::Supersede, now, policy).map_or(upload, |step| step.upload)
}

async fn update_track(
    txn: &DatabaseTransaction,
    row: &track::Model,
    bound: Option<Bound>,
    status: String,
    now: Timestamp,
) -> Result<()> {
    track::Entity::update_many()
        .set(track::ActiveModel {
            bound_upload_id: Set(bound.map(|b| b.upload.0)),
            bound_sequence: Set(bound.map(|b| b.sequence)),
            status: Set(status),
            version: Set(row.version + 1),
            updated_at: Set(now),
            ..Default::default()
        })
        .filter(track::Column::Id.eq(row.id))
        .exec(txn)
        .await?;
    Ok(())
}
