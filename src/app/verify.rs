//! Verification by an operator: changes missing and rejected uploads back to `uploaded`, if their
//! objects still exist.

use chrono::TimeDelta;
use futures_util::{StreamExt as _, stream};

use super::{App, AppError, Result};
use crate::db::DbError;
use crate::domain::transition::{Event, TransitionError, Verification};
use crate::domain::upload::{ConfirmedBy, Declared};
use crate::domain::{Owner, RunId, Status, Upload, UploadId};

/// For how long the deletion of a due object is postponed while it is verified.
const KEEP: TimeDelta = TimeDelta::hours(1);

/// A deletion that is due within this time counts as due, because clocks differ.
const MARGIN: TimeDelta = TimeDelta::minutes(5);

/// How many uploads of a run are read at a time.
const PAGE: u64 = 100;

/// The number of uploads that are verified at the same time.
const CONCURRENCY: usize = 8;

/// The result for the uploads that a run rejected.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Reverified {
    /// How many are `uploaded` again.
    pub verified: u64,
    /// How many were no longer rejected.
    pub unchanged: u64,
    /// How many stay rejected, because of their bytes.
    pub refused: u64,
    /// How many have no object.
    pub absent: u64,
    /// How many could not be verified now: the store failed, or a run that may delete them is in
    /// progress.
    pub failed: u64,
}

impl App {
    /// Verifies an upload of any owner again, for an operator.
    ///
    /// # Errors
    /// If its object does not exist ([`AppError::NotArrived`]), if its bytes are refused
    /// ([`AppError::State`]), or if a run may delete the object at the same time
    /// ([`AppError::RunMayDelete`]).
    pub async fn verify_upload(
        &self,
        operator: &Owner,
        id: UploadId,
        accept_changed: bool,
    ) -> Result<Upload> {
        let upload = self.db.uploads().find_any_owner(id).await?;
        let upload = upload.ok_or(AppError::NotFound("upload"))?;
        self.verify_row(operator, upload, accept_changed).await
    }

    /// Verifies all uploads that a run rejected again, for an operator.
    ///
    /// # Errors
    /// If there is no such run, or if the database fails.
    pub async fn verify_rejected_by(
        &self,
        operator: &Owner,
        run: RunId,
        accept_changed: bool,
    ) -> Result<Reverified> {
        self.db.runs().find(run).await?.ok_or(AppError::NotFound("run"))?;
        let (mut counts, mut after) = (Reverified::default(), None);
        loop {
            let (last, rows) = self.db.missing_candidates().list_rejected(run, after, PAGE).await?;
            if last.is_none() {
                return Ok(counts);
            }
            after = last;
            let results = stream::iter(rows).map(|row| async move {
                let rejected = row.status() == Status::Rejected;
                if !rejected {
                    return None;
                }
                Some(self.verify_row(operator, row, accept_changed).await)
            });
            let mut results = results.buffer_unordered(CONCURRENCY);
            while let Some(result) = results.next().await {
                match result {
                    None => counts.unchanged += 1,
                    Some(Ok(_)) => counts.verified += 1,
                    Some(Err(AppError::NotArrived)) => counts.absent += 1,
                    Some(Err(AppError::State(_))) => counts.refused += 1,
                    // The operator can send the request again: uploads that are verified already
                    // do not change.
                    Some(Err(AppError::Db(error @ (DbError::Unavailable(_) | DbError::Busy)))) => {
                        return Err(error.into());
                    }
                    Some(Err(error)) => {
                        counts.failed += 1;
                        tracing::warn!(%run, error = &error as &dyn std::error::Error,
                            "a rejected upload could not be verified now");
                    }
                }
            }
        }
    }

    async fn verify_row(
        &self,
        operator: &Owner,
        upload: Upload,
        accept_changed: bool,
    ) -> Result<Upload> {
        match upload.status() {
            Status::Uploaded | Status::Missing | Status::Rejected => {}
            // Refused without a request to the store.
            status => return Err(TransitionError::NotVerifiable(status).into()),
        }
        let upload = self.keep_object(upload).await?;
        let event = self.observe_for_operator(operator, &upload, accept_changed).await?;
        if matches!(event, Event::Absent(_)) {
            return Err(AppError::NotArrived);
        }
        let upload = self.apply(upload, &event).await?.upload;
        match upload.status() {
            // Another writer changed the row, so the object was observed again. It was absent then.
            Status::Missing | Status::Rejected => Err(AppError::NotArrived),
            _ => Ok(upload),
        }
    }

    /// Postpones the deletion of the object, so that no run deletes it before the verification is
    /// committed. A run that starts later reads the new time. A run that started earlier may still
    /// delete the object, so the verification is refused then.
    async fn keep_object(&self, upload: Upload) -> Result<Upload> {
        let now = self.now();
        if !upload.deletion.is_due(now + MARGIN) {
            return Ok(upload);
        }
        let until = now + KEEP;
        let upload = self.apply(upload, &Event::KeepObject { until }).await?.upload;
        if self.db.runs().list_running().await?.is_empty() {
            Ok(upload)
        } else {
            Err(AppError::RunMayDelete)
        }
    }

    /// Observes an object for an operator: a verification, or an absence. If the operator accepts
    /// other bytes, the size and the checksum that the client declared are ignored.
    pub(crate) async fn observe_for_operator(
        &self,
        operator: &Owner,
        upload: &Upload,
        accept_changed: bool,
    ) -> Result<Event> {
        let replaces = upload.state.ever_verified().is_some() || upload.deletion_is_damage();
        let mut observed = upload.clone();
        if accept_changed && replaces {
            observed.declared = Declared { size: None, checksum: None, ..observed.declared };
        }
        Ok(match self.observe_object(&observed, ConfirmedBy::Confirm).await? {
            Event::Observed(seen) => {
                let operator = operator.clone();
                Event::Verify(Verification { seen, accept_changed, operator })
            }
            absent => absent,
        })
    }
}
