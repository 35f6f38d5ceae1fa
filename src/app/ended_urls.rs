//! Checks uploads whose URL has expired and that no client confirms. The clients of some dialects
//! send the file in one request and report nothing.
//!
//! Each upload is checked once, with one HEAD request. Bucket events and reconciler runs may find
//! the object earlier. If a request started before the URL expired and its bytes arrive later, a
//! run finds the object.

use std::collections::HashSet;

use chrono::TimeDelta;
use futures_util::{StreamExt as _, stream};

use super::{App, Result};
use crate::domain::transition::Event;
use crate::domain::upload::{ConfirmedBy, Strategy};
use crate::domain::{Status, Timestamp, Upload, UploadId};

/// Time from the end of a URL to the check. A small file that was sent at the last moment has
/// arrived by then.
const DELAY: TimeDelta = TimeDelta::seconds(5);

/// How long a process has for the checks that it has claimed. After that, another process may claim
/// them.
const LEASE: TimeDelta = TimeDelta::minutes(1);

/// Time after the end of a URL after which a failed check is not repeated. A run finds the object
/// later.
const GIVE_UP: TimeDelta = TimeDelta::minutes(15);

/// The maximum number of checks in one round.
pub const BATCH: u64 = 100;

/// The number of objects that are checked at the same time.
const CONCURRENCY: usize = 8;

impl App {
    /// Schedules the check of an upload whose row is not committed yet. If the row is never
    /// committed, the check finds nothing.
    pub(super) async fn check_at_url_end(&self, upload: &Upload) -> Result<()> {
        if !matches!(upload.strategy, Strategy::Put | Strategy::Post) {
            return Ok(());
        }
        Ok(self.db.url_end_checks().schedule(&[(upload.id, due(upload))]).await?)
    }

    /// Checks the uploads whose check is due, up to [`BATCH`], and saves the results in one commit.
    /// Returns how many were due.
    ///
    /// # Errors
    /// If the database fails. The checks are repeated after their lease has ended.
    pub async fn check_ended_urls(&self) -> Result<u64> {
        let (checks, now) = (self.db.url_end_checks(), self.now());
        let claimed = checks.claim(now, now + LEASE, BATCH).await?;
        if claimed.is_empty() {
            return Ok(0);
        }
        let uploads = self.db.uploads().find_many_any_owner(&claimed).await?;
        let pending = uploads.into_iter().filter(|upload| upload.status() == Status::Pending);
        // The client may have received a new URL.
        let (moved, ended): (Vec<_>, Vec<_>) = pending.partition(|upload| due(upload) > now);
        let moved: Vec<_> = moved.iter().map(|upload| (upload.id, due(upload))).collect();
        let failed = self.observe_ended(ended, now).await?;
        checks.schedule(&moved).await?;
        let open: HashSet<UploadId> =
            failed.into_iter().chain(moved.into_iter().map(|(id, _)| id)).collect();
        let done: Vec<_> = claimed.iter().copied().filter(|id| !open.contains(id)).collect();
        checks.delete(&done).await?;
        Ok(claimed.len() as u64)
    }

    /// Checks uploads and saves those whose object exists. Returns the uploads to check again
    /// because the store failed.
    async fn observe_ended(&self, ended: Vec<Upload>, now: Timestamp) -> Result<Vec<UploadId>> {
        let observe = |upload: Upload| async move {
            let seen = self.observe_object(&upload, ConfirmedBy::Scan).await;
            (upload, seen)
        };
        let mut observed = stream::iter(ended).map(observe).buffer_unordered(CONCURRENCY);
        let (mut events, mut failed) = (Vec::new(), Vec::new());
        while let Some((upload, seen)) = observed.next().await {
            match seen {
                Ok(event @ Event::Observed(_)) => events.push((upload, event)),
                // Bytes may still arrive until the deadline, at which a run ends the upload.
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(
                        upload = %upload.id,
                        error = &error as &dyn std::error::Error,
                        "an upload could not be checked at the end of its URL"
                    );
                    if now - upload.url_expires_at < GIVE_UP {
                        failed.push(upload.id);
                    }
                }
            }
        }
        for applied in self.apply_many(events).await? {
            if let Err(error) = applied {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the result of a check at the end of a URL was not saved");
            }
        }
        Ok(failed)
    }
}

/// The time of an upload's check.
fn due(upload: &Upload) -> Timestamp {
    upload.url_expires_at + DELAY
}
