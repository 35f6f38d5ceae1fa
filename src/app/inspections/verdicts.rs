//! Verdicts that inspectors send later, and verdicts of operators about held files.

use super::backfill::Backfilled;
use super::http::check_annotation;
use super::{App, AppError, Result, clean};
use crate::domain::inspection::{Inspected, InspectionStatus, Verdict};
use crate::domain::transition::Event;
use crate::domain::upload::State;
use crate::domain::{Upload, UploadId};

impl App {
    /// Applies a verdict about an upload of any owner, and returns the upload after it. If the
    /// verdict is about other bytes than the current ones, or the upload does not wait for it,
    /// nothing changes. A verdict about a served file that a backfill deferred changes it within
    /// the damage limit.
    ///
    /// # Errors
    /// If there is no such upload or inspector, or the annotations are too large.
    pub async fn submit_verdict(&self, id: UploadId, inspected: Inspected) -> Result<Upload> {
        let upload = self.db.uploads().find_any_owner(id).await?;
        let upload = upload.ok_or(AppError::NotFound("upload"))?;
        let name = &inspected.inspector;
        let awaited = match &upload.state {
            State::Inspecting(inspecting) => inspecting.waiting_for.contains(name),
            _ => false,
        };
        if !awaited && !self.inspectors.contains_key(name) {
            return Err(AppError::field("inspector", format!("There is no inspector `{name}`")));
        }
        check_annotation(&inspected.annotation)
            .map_err(|problem| AppError::field("annotations", problem))?;
        let verdict = match inspected.verdict {
            Verdict::Reject(reason) => Verdict::Reject(clean(reason)),
            Verdict::Accept => Verdict::Accept,
        };
        let inspected = Inspected { verdict, backfill: false, ..inspected };
        if let State::Uploaded(_) = &upload.state
            && self.is_deferred_backfill(id, &inspected).await?
        {
            let name = inspected.inspector.clone();
            let (upload, done) = self.apply_to_served(upload, inspected).await?;
            // A verdict above the damage limit may be sent again.
            if !matches!(done, Backfilled::Withheld(_)) {
                self.db.inspections().end_backfill(id, &name).await?;
            }
            return Ok(upload);
        }
        Ok(self.apply(upload, &Event::Inspected(inspected)).await?.upload)
    }

    /// Whether a backfill waits for this verdict.
    async fn is_deferred_backfill(&self, id: UploadId, inspected: &Inspected) -> Result<bool> {
        let rows = self.db.inspections().list_of(id).await?;
        Ok(rows.iter().any(|row| {
            row.status == InspectionStatus::Backfill
                && row.inspector == inspected.inspector
                && (&row.etag, &row.version_id) == (&inspected.etag, &inspected.version_id)
        }))
    }
}
