//! Saves the changes that transitions decided, with their attachments, deliveries and aborts in the
//! same transaction.

use std::collections::BTreeMap;

use sea_orm::DatabaseTransaction;

use super::Uploads;
use super::change::{Change, Saved};
use super::history::{NewStatusChange, update_and_record};
use super::locked_rows::{LockedRows, update};
use crate::db::{Result, inspections};
use crate::domain::transition::Effect;
use crate::domain::upload::Strategy;
use crate::domain::{Timestamp, Upload};
use crate::telemetry::metrics as names;

impl Uploads<'_> {
    /// Saves changes of different uploads in one transaction. Each change is guarded by the version
    /// that was read. If another change was committed first, only this change is lost. Returns the
    /// results in the order of the changes.
    ///
    /// # Errors
    /// If the database fails, or if a reopened upload exceeds its owner's quota.
    pub async fn save(self, changes: Vec<Change<'_>>, now: Timestamp) -> Result<Vec<Saved>> {
        if let [change] = changes.as_slice()
            && self.is_one_statement(change)
        {
            let upload = Upload { version: change.upload.version + 1, ..change.upload.clone() };
            let written = if change.from == upload.status() {
                update(&self.engine.write, &[&upload]).await?
            } else {
                let Change { from, cause, .. } = change;
                let change = NewStatusChange { upload: &upload, from: *from, cause };
                update_and_record(&self.engine.write, &change).await?
            };
            let saved = if written == 1 { Saved::Done(upload) } else { Saved::Lost };
            self.publish(&saved);
            return Ok(vec![saved]);
        }
        let txn = self.engine.begin().await?;
        if let Err(error) = self.check_reopened(&txn, &changes).await {
            txn.rollback().await?;
            return Err(error);
        }
        let (saved, superseded) = self.save_in(&txn, changes, now).await?;
        txn.commit().await?;
        self.publish_all(&saved, &superseded);
        Ok(saved)
    }

    /// Whether a change writes only its own row, or on PostgreSQL also a row of its history. Then a
    /// single statement that checks the version replaces the transaction, which would need several
    /// round trips.
    fn is_one_statement(self, change: &Change<'_>) -> bool {
        (change.from == change.upload.status() || self.engine.is_postgres())
            && change.upload.slot.is_none()
            && change.left_behind.is_none()
            && self.outbox.is_empty()
            && !has_parts(&change.upload)
            && !change.effects.contains(&Effect::AbortMultipart)
            && !inspections::concerns(&change.effects)
            && !(change.effects.contains(&Effect::Reopen) && self.state.quota.bounds_pending())
    }

    /// Saves changes within a transaction of the caller. Returns the results of the changes and of
    /// the uploads that they supersede. The caller publishes both after the commit.
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
            // Uploads of a subject are processed in the order of their sequence numbers, because a
            // newer verified upload supersedes an older one.
            (upload.slot.as_ref(), upload.id)
        });
        let mut rows = LockedRows::lock(txn, self.engine.is_postgres(), &changes).await?;
        let mut responses = BTreeMap::new();
        let mut changes: Vec<Option<Change<'_>>> = changes.into_iter().map(Some).collect();
        let mut superseded = Vec::new();
        for i in order {
            let Some(change) = changes[i].take() else { continue };
            let (saved, old) = rows.add(change, now);
            responses.insert(i, saved);
            superseded.extend(old);
        }
        rows.save(txn, self.outbox).await?;
        Ok((responses.into_values().collect(), superseded))
    }

    /// Publishes committed changes to watchers, dispatchers and metrics.
    pub(in crate::db) fn publish_all(self, saved: &[Saved], superseded: &[Saved]) {
        saved.iter().chain(superseded).for_each(|saved| self.publish(saved));
        for saved in superseded {
            if let Saved::Done(upload) = saved {
                let (policy, status) = (upload.policy.as_str().to_owned(), upload.status().name());
                metrics::counter!(names::TRANSITIONS,
                    "policy" => policy, "status" => status, "source" => "superseded")
                .increment(1);
            }
        }
    }

    /// Publishes a committed change to watchers and dispatchers.
    pub(in crate::db) fn publish(self, saved: &Saved) {
        if let Saved::Done(upload) = saved {
            self.state.watchers.publish(upload);
            self.outbox.notify();
            self.state.inspections.notify(upload);
        }
    }
}

/// Whether the upload's bytes may arrive in parts.
fn has_parts(upload: &Upload) -> bool {
    match upload.strategy {
        Strategy::Multipart | Strategy::Direct | Strategy::Tus => true,
        Strategy::Put | Strategy::Post => false,
    }
}

#[cfg(test)]
#[path = "save_tests.rs"]
mod tests;
