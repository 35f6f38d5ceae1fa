//! Events of the bucket: each is a hint to look at an object, never the truth.

use futures_util::{StreamExt as _, stream};

use super::{App, AppError, Result};
use crate::db::DbError;
use crate::domain::event::ObjectEvent;
use crate::domain::transition::Event;
use crate::domain::upload::ConfirmedBy;
use crate::domain::{Policy, Upload};
use crate::storage::{Store, StoreError};
use crate::telemetry::metrics as names;

/// How many objects of one message are looked at at once.
const CONCURRENCY: usize = 8;

impl App {
    /// Looks at the objects that a message is about. Objects that are not ours are passed
    /// over, and so is one that always fails: the reconciler sees to it. The error is one
    /// that will pass; then the sender should send the message again.
    pub async fn process_events(&self, events: Vec<ObjectEvent>) -> Result<()> {
        let noted =
            stream::iter(events).map(|event| async move { self.process_event(&event).await });
        let mut answers = noted.buffer_unordered(CONCURRENCY);
        let mut passing = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(()) => {}
                Err(error) if passes(&error) => passing = Some(error),
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "event passed over; the reconciler looks at its object"
                ),
            }
        }
        passing.map_or(Ok(()), Err)
    }

    async fn process_event(&self, event: &ObjectEvent) -> Result<()> {
        let noted = self.apply_hint(event).await;
        let outcome = match &noted {
            Ok(true) => "ours",
            Ok(false) => "foreign",
            Err(_) => "failed",
        };
        metrics::counter!(names::BUCKET_EVENTS, "outcome" => outcome).increment(1);
        noted.map(drop)
    }

    /// Whether the object is ours.
    async fn apply_hint(&self, event: &ObjectEvent) -> Result<bool> {
        let Some(upload) = self.upload_of(event).await? else {
            tracing::debug!(bucket = event.bucket, "event of an object that is not ours");
            return Ok(false);
        };
        let seen = self.observe_object(&upload, ConfirmedBy::Event).await?;
        if let Event::Absent(_) = seen {
            // A HEAD can't tell a bucket that is gone from an object that is gone.
            self.rules_of(&upload)?.1.objects.check_bucket().await?;
        }
        self.apply(upload, &seen).await?;
        Ok(true)
    }

    /// The upload that an object belongs to.
    async fn upload_of(&self, event: &ObjectEvent) -> Result<Option<Upload>> {
        for policy in self.policies.values() {
            let store = self.store_of(policy)?;
            let Some(id) = id_of(event, policy, store) else { continue };
            let upload = self.db.uploads().find_any_owner(id).await?;
            if let Some(upload) = upload
                && upload.key.as_str() == event.key
                && upload.policy == policy.name
            {
                return Ok(Some(upload));
            }
        }
        Ok(None)
    }
}

fn id_of(event: &ObjectEvent, policy: &Policy, store: &Store) -> Option<crate::domain::UploadId> {
    if store.bucket == event.bucket { policy.prefix.parse_key(&event.key) } else { None }
}

/// Whether the same will go well later.
fn passes(error: &AppError) -> bool {
    matches!(
        error,
        AppError::Contended
            | AppError::Db(DbError::Unavailable(_) | DbError::Busy)
            | AppError::Store(StoreError::Unavailable(_))
    )
}
