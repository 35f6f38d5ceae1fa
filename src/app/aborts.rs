//! Aborts the multipart uploads of uploads that have ended: at once after the commit, and
//! again in reconciliation runs until the store has confirmed it.

use std::time::Duration;

use super::{App, AppError, Result};
use crate::db::multipart_aborts::DueAbort;
use crate::domain::backoff::Backoff;
use crate::domain::reconcile::is_abandoned;
use crate::domain::{ObjectKey, Policy, Timestamp, Upload, UploadId};
use crate::storage::{Store, StoreError};

/// The pauses after failures. After a store recovers, its parts are deleted within the longest
/// pause.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_mins(1), longest: Duration::from_hours(6) };

impl App {
    /// Discards the parts of an upload that has ended. The row and the record of this abort were
    /// committed earlier, so if the store fails now, a later run tries again.
    pub(crate) async fn abort_multipart(&self, store: &Store, upload: &Upload, id: &str) {
        if self.has_unverified_bucket(upload) {
            tracing::debug!(upload = %upload.id, "the abort is left to a run that trusts the bucket");
            return;
        }
        let done = match self.discard(store, upload.id, &upload.key, id).await {
            Ok(()) => self.db.multipart_aborts().delete(upload.id, id).await,
            Err(error) => {
                tracing::warn!(upload = %upload.id, error = &error as &dyn std::error::Error,
                    "multipart upload not aborted; a later run tries again");
                let next = next_attempt(0, self.now());
                self.db.multipart_aborts().reschedule(upload.id, id, 1, next).await
            }
        };
        log_failure(done.map_err(Into::into));
    }

    /// Aborts a multipart upload, and deletes the tails that its upload leaves.
    async fn discard(&self, store: &Store, of: UploadId, key: &ObjectKey, id: &str) -> Result<()> {
        store.objects.abort_multipart(key.as_str(), id).await?;
        self.delete_pieces(store, of, key).await
    }

    /// Deletes the tails of an upload that was completed, and the record of its multipart upload.
    /// If the store fails, the record stays, and a run tries again.
    pub(in crate::app) async fn settle_pieces(&self, store: &Store, upload: &Upload, id: &str) {
        match self.delete_pieces(store, upload.id, &upload.key).await {
            Ok(()) => self.settle_multipart(upload, id).await,
            Err(error) => tracing::warn!(upload = %upload.id,
                error = &error as &dyn std::error::Error,
                "tails were not deleted; a later run tries again"),
        }
    }

    /// Aborts a multipart upload that was never recorded in a row.
    pub(crate) async fn abort_unrecorded(&self, store: &Store, upload: &Upload, id: &str) {
        log_failure(self.db.multipart_aborts().create(upload, id).await.map_err(Into::into));
        self.abort_multipart(store, upload, id).await;
    }

    /// Deletes the record of a multipart upload that was completed.
    pub(crate) async fn settle_multipart(&self, upload: &Upload, id: &str) {
        log_failure(self.db.multipart_aborts().delete(upload.id, id).await.map_err(Into::into));
    }

    /// Tries a recorded abort. The record stays unless the store confirms the abort. Returns
    /// whether this attempt confirmed an abort that had failed before.
    pub async fn retry_abort(&self, policy: &Policy, due: &DueAbort) -> Result<bool> {
        let location = self.location(&due.policy, due.location).await?;
        let store = self.store_at(&location)?;
        let done = match due.multipart_id() {
            Some(id) => {
                let key = ObjectKey::stored(due.key.as_str());
                self.discard(store, due.upload, &key, id).await.map(|()| true)
            }
            None => self.discard_unowned(policy, store, due).await,
        };
        match done {
            Ok(true) => {
                self.db.multipart_aborts().complete(due).await?;
                Ok(due.attempts > 0)
            }
            Ok(false) => {
                self.db.multipart_aborts().postpone(due, self.now() + policy.grace).await?;
                Ok(false)
            }
            Err(error) => {
                self.db
                    .multipart_aborts()
                    .postpone(due, next_attempt(due.attempts, self.now()))
                    .await?;
                Err(error)
            }
        }
    }

    /// Aborts the multipart uploads at a key that are in no row, and deletes the tails of an ended
    /// upload. Returns `false` if a multipart upload is too new to be aborted.
    async fn discard_unowned(
        &self,
        policy: &Policy,
        store: &Store,
        due: &DueAbort,
    ) -> Result<bool> {
        let done = self.abort_unowned(policy, store, due).await??;
        self.delete_pieces(store, due.upload, &ObjectKey::stored(due.key.as_str())).await?;
        Ok(done)
    }

    /// Aborts the multipart uploads at a key that are in no row and were opened before the grace
    /// began. Returns `false` if one was opened later: its id may still be recorded in the row.
    async fn abort_unowned(
        &self,
        policy: &Policy,
        store: &Store,
        due: &DueAbort,
    ) -> Result<Result<bool, StoreError>> {
        let row = self.db.uploads().find_any_owner(due.upload).await?;
        let listed = match store.objects.list_multiparts(&due.key, None).await {
            Ok((open, _)) => open,
            // The store has no list of multipart uploads, so a retry would find nothing either.
            Err(StoreError::Refused { code, .. }) => {
                tracing::debug!(upload = %due.upload, code, "no list of multipart uploads");
                return Ok(Ok(true));
            }
            Err(error) => return Ok(Err(error)),
        };
        let mut settled = true;
        for open in listed.into_iter().filter(|open| open.key == due.key) {
            let id = open.upload_id.as_str();
            if row.as_ref().is_some_and(|row| row.multipart_id.as_deref() == Some(id)) {
                continue;
            }
            // The request that opened it may be about to record it in the row.
            if !is_abandoned(row.as_ref(), id, open.initiated, self.now(), policy) {
                settled = false;
            } else if let Err(error) = store.objects.abort_multipart(&due.key, id).await {
                return Ok(Err(error));
            }
        }
        Ok(Ok(settled))
    }
}

fn next_attempt(attempts: i32, now: Timestamp) -> Timestamp {
    now + BACKOFF.pause(u32::try_from(attempts).unwrap_or(0))
}

/// Logs that the record of an abort could not be written or deleted. If it was not deleted, a later
/// run repeats the abort, which has no effect.
fn log_failure(written: Result<(), AppError>) {
    if let Err(error) = written {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the record of an abort was not written"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_fails_is_called_less_and_less_often_but_never_given_up() {
        let now = Timestamp::UNIX_EPOCH;
        let pause = |attempts| (next_attempt(attempts, now) - now).num_minutes();
        assert_eq!([0, 1, 5, 9, 99].map(pause), [1, 2, 32, 360, 360]);
    }
}
