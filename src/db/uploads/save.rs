//! Saving what transitions decided, with the track's side of it in the same transaction.

use std::collections::BTreeMap;

use sea_orm::DatabaseTransaction;

use super::Uploads;
use super::locked_rows::{Group, update};
use crate::db::Result;
use crate::domain::transition::Effect;
use crate::domain::upload::Strategy;
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

impl Uploads<'_> {
    /// Saves changes of different uploads in one transaction. Each is guarded by the version that
    /// was read: a lost race does not affect the other changes. Returns the results in the order
    /// of the changes.
    ///
    /// # Errors
    /// If the database fails, or if a reopened upload exceeds its owner's quota.
    pub async fn save(self, changes: Vec<Change<'_>>, now: Timestamp) -> Result<Vec<Saved>> {
        if let [change] = changes.as_slice()
            && self.is_one_statement(change)
        {
            let upload = Upload { version: change.upload.version + 1, ..change.upload.clone() };
            let written = update(&self.0.write, &[&upload]).await?;
            let saved = if written == 1 { Saved::Done(upload) } else { Saved::Lost };
            self.tell(&saved);
            return Ok(vec![saved]);
        }
        let txn = self.0.begin().await?;
        if let Err(error) = self.check_reopened(&txn, &changes).await {
            txn.rollback().await?;
            return Err(error);
        }
        let (saved, superseded) = self.save_in(&txn, changes, now).await?;
        txn.commit().await?;
        self.tell_all(&saved, &superseded);
        Ok(saved)
    }

    /// Whether a change writes its own row and no other.
    fn is_one_statement(self, change: &Change<'_>) -> bool {
        change.upload.slot.is_none()
            && self.0.outbox.is_empty()
            && !has_parts(&change.upload)
            && !(change.effects.contains(&Effect::Reopen) && self.0.quota.bounds_pending())
    }

    /// Saves several changes within a transaction; besides, what became of the uploads that
    /// they replace. To be told after the commit.
    pub(in crate::db) async fn save_in(
        self,
        txn: &DatabaseTransaction,
        changes: Vec<Change<'_>>,
        now: Timestamp,
    ) -> Result<(Vec<Saved>, Vec<Saved>)> {
        if changes.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let mut order: Vec<usize> = (0..changes.len()).collect();
        order.sort_by_key(|i| {
            let upload = &changes[*i].upload;
            // Of one track the older first: a newer one that is verified ends it.
            (upload.slot.map(|slot| (slot.track, slot.sequence)), upload.id)
        });
        let mut group = Group::lock(txn, self.0.is_postgres(), &changes).await?;
        let mut answers = BTreeMap::new();
        let mut changes: Vec<Option<Change<'_>>> = changes.into_iter().map(Some).collect();
        let mut superseded = Vec::new();
        for i in order {
            let Some(change) = changes[i].take() else { continue };
            let (saved, old) = group.add(change, now);
            answers.insert(i, saved);
            superseded.extend(old);
        }
        group.save(txn, &self.0.outbox, now).await?;
        Ok((answers.into_values().collect(), superseded))
    }

    /// Tells those who wait, and the metrics, what is committed.
    pub(in crate::db) fn tell_all(self, saved: &[Saved], superseded: &[Saved]) {
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
    pub(in crate::db) fn tell(self, saved: &Saved) {
        if let Saved::Done(upload) = saved {
            self.0.changes.publish(upload);
            self.0.outbox.ring();
        }
    }
}

/// Whether its bytes may come in parts.
fn has_parts(upload: &Upload) -> bool {
    match upload.strategy {
        Strategy::Multipart | Strategy::Direct => true,
        Strategy::Put | Strategy::Post => false,
    }
}

#[cfg(test)]
#[path = "save_tests.rs"]
mod tests;
