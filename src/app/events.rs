//! Processes events of a bucket. An event is only a hint to observe an object, never evidence.

use futures_util::{StreamExt as _, stream};

use super::{App, AppError, Result};
use crate::db::DbError;
use crate::domain::event::ObjectEvent;
use crate::domain::upload::ConfirmedBy;
use crate::domain::{Location, Upload};
use crate::storage::StoreError;
use crate::telemetry::metrics as names;

/// How many objects of one message are observed at the same time.
const CONCURRENCY: usize = 8;

impl App {
    /// Observes the objects that a message names. Foreign objects are skipped, and so are objects
    /// that fail permanently: the reconciler retries those.
    ///
    /// # Errors
    /// A temporary error. The sender should send the message again.
    pub async fn process_events(&self, events: Vec<ObjectEvent>) -> Result<()> {
        let processed =
            stream::iter(events).map(|event| async move { self.process_event(&event).await });
        let mut results = processed.buffer_unordered(CONCURRENCY);
        let mut temporary = None;
        while let Some(result) = results.next().await {
            match result {
                Ok(()) => {}
                Err(error) if is_temporary(&error) => temporary = Some(error),
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "event skipped; the reconciler observes its object"
                ),
            }
        }
        temporary.map_or(Ok(()), Err)
    }

    async fn process_event(&self, event: &ObjectEvent) -> Result<()> {
        let processed = self.observe_named(event).await;
        let outcome = match &processed {
            Ok(true) => "ours",
            Ok(false) => "foreign",
            Err(_) => "failed",
        };
        metrics::counter!(names::BUCKET_EVENTS, "outcome" => outcome).increment(1);
        processed.map(drop)
    }

    /// Observes the object that an event names. Returns whether it belongs to an upload.
    async fn observe_named(&self, event: &ObjectEvent) -> Result<bool> {
        let Some(upload) = self.upload_of(event).await? else {
            tracing::debug!(bucket = event.bucket, "event of a foreign object");
            return Ok(false);
        };
        let seen = self.observe_object(&upload, ConfirmedBy::Event).await?;
        self.apply_within_limit(upload, &seen).await?;
        Ok(true)
    }

    /// The upload that an object belongs to.
    async fn upload_of(&self, event: &ObjectEvent) -> Result<Option<Upload>> {
        for policy in self.policies.values() {
            self.current_location(policy).await?;
        }
        let at = |location: &Location| {
            if location.bucket == event.bucket {
                location.prefix.parse_key(&event.key)
            } else {
                None
            }
        };
        // At most one prefix fits a key.
        let Some(id) = self.locations.all().iter().find_map(|location| at(location)) else {
            return Ok(None);
        };
        let Some(upload) = self.db.uploads().find_any_owner(id).await? else { return Ok(None) };
        // Stores with buckets of the same name may have objects with the same key. The HEAD is sent
        // to the store of the upload.
        let is_ours = upload.key.as_str() == event.key
            && self.policies.contains_key(&upload.policy)
            && self.location_of(&upload).await?.bucket == event.bucket;
        Ok(is_ours.then_some(upload))
    }
}

/// Whether the same request may succeed later.
fn is_temporary(error: &AppError) -> bool {
    matches!(
        error,
        AppError::Contended
            | AppError::Db(DbError::Unavailable(_) | DbError::Busy | DbError::Full(_))
            | AppError::Store(StoreError::Unavailable(_) | StoreError::Full(_))
    )
}
