//! Verdicts that inspectors send later, and verdicts of operators about held files.

use super::http::check_annotation;
use super::{App, AppError, Result, clean};
use crate::domain::inspection::{Inspected, Verdict};
use crate::domain::transition::Event;
use crate::domain::upload::State;
use crate::domain::{Upload, UploadId};

impl App {
    /// Applies a verdict about an upload of any owner, and returns the upload after it. If the
    /// verdict is about other bytes than the current ones, or the upload does not wait for it,
    /// nothing changes.
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
        let event = Event::Inspected(Inspected { verdict, backfill: false, ..inspected });
        Ok(self.apply(upload, &event).await?.upload)
    }
}
