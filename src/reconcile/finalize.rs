//! The harmful part of a run, which waits for all shards of its policy: absences of
//! verified uploads, and deletions. Both page through rows, and each page is written with
//! how far it is.

use futures_util::{FutureExt as _, StreamExt as _, stream};

use super::batch::At;
use super::worker::{BATCH, WorkError, Worker};
use crate::app::AppError;
use crate::domain::run::{Mode, Stage, SuspectKind};
use crate::domain::transition::Event;
use crate::domain::{Status, Timestamp, Upload, UploadId};

impl Worker<'_> {
    /// Ends what is missing, deletes what is due, and aborts what is abandoned, from where
    /// the shard stands.
    pub(super) async fn finalize(&self) -> Result<(), WorkError> {
        let stage = self.shard.stage;
        let cursor = |of: Stage| self.shard.cursor.clone().filter(|_| stage == of);
        if stage <= Stage::Missing {
            self.check_all_damage().await?;
            self.end_missing(cursor(Stage::Missing)).await?;
        }
        if stage <= Stage::Delete {
            self.delete_due(cursor(Stage::Delete)).await?;
        }
        self.abort_due().await?;
        // Else it is written with the shard's end.
        if self.run.request.mode == Mode::Audit {
            self.save(Vec::new(), (Stage::Multiparts, cursor(Stage::Multiparts))).await?;
            self.abort_multiparts(cursor(Stage::Multiparts)).await?;
        }
        Ok(())
    }

    /// Looks at each suspect once more, just before its absence is believed.
    async fn end_missing(&self, cursor: Option<String>) -> Result<(), WorkError> {
        let mut after: Option<UploadId> = cursor.and_then(|id| id.parse().ok());
        loop {
            let page = BATCH as u64;
            let (db, kind) = (&self.app.db, SuspectKind::Missing);
            let page = db.missing_candidates().list_after(self.shard, kind, after, page).await;
            let (Some(last), rows) = page.map_err(AppError::from)? else { return Ok(()) };
            let rows = rows.into_iter().filter(|row| row.status() == Status::Uploaded);
            let looked = stream::iter(rows).map(|row| self.observe(row).boxed());
            let mut looked = looked.buffered(self.settings.concurrency);
            let mut events = Vec::new();
            while let Some((upload, event)) = looked.next().await {
                match event {
                    Ok(event) => events.push((upload, event)),
                    Err(error) => self.count_error(&upload, &error),
                }
            }
            // After the HEADs: in a bucket that is gone or exchanged they show absence.
            if events.iter().any(|(_, event)| matches!(event, Event::Absent(_))) {
                self.check_bucket_identity("objects of verified uploads are missing").await?;
            }
            self.save(events, (Stage::Missing, Some(last.to_string()))).await?;
            after = Some(last);
        }
    }

    /// Deletes objects of final rows, as far as the run's budget goes. A final row never
    /// opens again and its key is its own, so nothing that is wanted can be hit, however
    /// late this comes.
    async fn delete_due(&self, cursor: Option<String>) -> Result<(), WorkError> {
        let mut after = cursor.as_deref().and_then(read_place);
        loop {
            let (now, page) = (self.app.now(), BATCH as u64);
            let due =
                self.app.db.scan().list_due_deletions(&self.policy.name, now, after, page).await;
            let mut due = due.map_err(AppError::from)?;
            if due.is_empty() {
                break;
            }
            self.check_bucket_identity("objects are due for deletion").await?;
            let whole = self.spend(&mut due).await?;
            let Some(last) = due.last() else { return Ok(()) };
            after = last.deletion.after.map(|at| (at, last.id));
            let at: At = (Stage::Delete, after.map(place));
            if self.run.request.dry_run {
                self.say_deleted(&due);
                self.save(Vec::new(), at).await?;
            } else {
                let gone = self.delete(due).await?;
                self.save(gone, at).await?;
            }
            if !whole {
                return Ok(());
            }
        }
        if self.run.request.dry_run { self.say_dry_due().await } else { Ok(()) }
    }

    /// Says what a real run would delete.
    fn say_deleted(&self, rows: &[Upload]) {
        let (now, mut tally) = (self.app.now(), self.report.tally());
        for row in rows {
            tally.count_deletion(row, now);
        }
    }

    /// Cuts what is to be deleted to what is left of the run's budget; whether all is left.
    async fn spend(&self, due: &mut Vec<Upload>) -> Result<bool, WorkError> {
        let wanted = due.len();
        let (lease, budget) = (self.settings.lease, self.settings.max_deletions);
        let granted =
            self.app.db.shards().spend_deletions(self.shard, lease, wanted as u64, budget).await;
        let granted = granted.map_err(AppError::from)?.ok_or(WorkError::LostLease)?;
        due.truncate(usize::try_from(granted).unwrap_or(usize::MAX));
        Ok(due.len() == wanted)
    }

    /// What this dry run would have made due, had it been a real one.
    async fn say_dry_due(&self) -> Result<(), WorkError> {
        let mut after = None;
        loop {
            let (db, kind) = (&self.app.db, SuspectKind::Due);
            let page =
                db.missing_candidates().list_after(self.shard, kind, after, BATCH as u64).await;
            let (Some(last), mut rows) = page.map_err(AppError::from)? else { return Ok(()) };
            if after.is_none() {
                self.check_bucket_identity("objects are due for deletion").await?;
            }
            after = Some(last);
            let whole = self.spend(&mut rows).await?;
            self.say_deleted(&rows);
            if !whole {
                return Ok(());
            }
        }
    }

    /// Reads each row again just before its object goes.
    async fn delete(&self, due: Vec<Upload>) -> Result<Vec<(Upload, Event)>, WorkError> {
        let deletions = stream::iter(due).map(|upload| self.delete_one(upload).boxed());
        let mut deletions = deletions.buffered(self.settings.concurrency);
        let mut gone = Vec::new();
        while let Some((upload, result)) = deletions.next().await {
            match result {
                Ok(true) => gone.push((upload, Event::ObjectDeleted)),
                Ok(false) => {}
                Err(error) => self.count_error(&upload, &error),
            }
        }
        Ok(gone)
    }

    async fn delete_one(&self, upload: Upload) -> (Upload, Result<bool, AppError>) {
        self.throttle.acquire().await;
        let deleted = async {
            let Some(row) = self.app.db.uploads().find_any_owner(upload.id).await? else {
                return Ok(false);
            };
            if !row.status().is_final() || !row.deletion.is_due(self.app.now()) {
                return Ok(false);
            }
            self.store.objects.delete(row.key.as_str()).await?;
            Ok(true)
        };
        let deleted = deleted.await;
        (upload, deleted)
    }
}

/// A place in the order of deletions, as a cursor.
fn place((at, id): (Timestamp, UploadId)) -> String {
    format!("{} {id}", at.to_rfc3339())
}

fn read_place(text: &str) -> Option<(Timestamp, UploadId)> {
    let (at, id) = text.split_once(' ')?;
    Some((at.parse().ok()?, id.parse().ok()?))
}
