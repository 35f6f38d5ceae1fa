//! The requests of a caller about one upload: read it, read its history, renew, confirm and delete
//! it.

use chrono::TimeDelta;

use super::create_upload::Created;
use super::upload_tokens::within_reach;
use super::{App, AppError, Result};
use crate::domain::transition::Event;
use crate::domain::upload::{ConfirmedBy, Strategy};
use crate::domain::{Principal, Status, StatusChange, Upload, UploadId};
use crate::storage::signer::SignedRequest;

/// The result of a confirmation.
pub(super) enum Confirmation {
    /// The upload stays as it is: it is in a final state, or the change is withheld because the
    /// damage limit is reached.
    Settled(Upload),
    /// The object was observed.
    Observed(Upload, Event),
}

/// The upload after its confirmation; an error if its object is not in the store.
pub(super) fn arrived(upload: Upload) -> Result<Upload> {
    match upload.status() {
        Status::Pending | Status::Expired | Status::Missing => Err(AppError::NotArrived),
        Status::Inspecting
        | Status::Uploaded
        | Status::Rejected
        | Status::Cancelled
        | Status::Removed => Ok(upload),
    }
}

impl App {
    /// One upload of this caller.
    pub async fn upload(&self, by: impl Into<Principal<'_>>, id: UploadId) -> Result<Upload> {
        let by = by.into();
        let upload = self.db.uploads().find(by.owner(), id).await?;
        within_reach(by, upload).ok_or(AppError::NotFound("upload"))
    }

    /// The changes of an upload's status, oldest first.
    pub async fn upload_history(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
    ) -> Result<Vec<StatusChange>> {
        self.upload(by, id).await?;
        Ok(self.db.uploads().history(id).await?)
    }

    /// Signs a new request for the key of a pending or expired upload.
    pub async fn renew_upload(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
        expires_in: Option<i64>,
    ) -> Result<Created> {
        let by = by.into();
        let upload = self.upload(by, id).await?;
        if upload.strategy == Strategy::Tus {
            // When it expires, the bytes that were received are deleted.
            let sentence = "The upload's strategy is tus, so it has no URL to renew; continue it, or \
                            create a new upload";
            return Err(AppError::field("id", sentence));
        }
        let (event, request) = self.sign_renewal(by, &upload, expires_in).await?;
        let renewed = self.apply(upload, &event).await?;
        let mut upload = renewed.upload;
        if upload.strategy == Strategy::Multipart {
            upload = self.reopen_multipart(upload).await?;
        }
        Ok(Created { upload, request })
    }

    /// Signs a new request for an upload. Also returns the event that extends the upload's deadline
    /// to the end of the request. Apply the event before the client gets the request. The request
    /// is `None` if the upload's strategy has no single request for the whole file.
    pub(super) async fn sign_renewal(
        &self,
        by: Principal<'_>,
        upload: &Upload,
        expires_in: Option<i64>,
    ) -> Result<(Event, Option<SignedRequest>)> {
        let (policy, store) = self.rules_of(upload).await?;
        let mut ttl = Self::url_ttl(policy, expires_in)?;
        if let Err(expired) = self.require_unexpired(by) {
            // An upload of an expired token can continue until its deadline, but not longer.
            ttl = ttl.min(upload.url_expires_at - self.now());
            if ttl < TimeDelta::seconds(1) {
                return Err(expired);
            }
        }
        let request = self.sign_whole(upload, policy, store, ttl).await?;
        let ends = request.as_ref().map_or(self.now() + ttl, |signed| signed.expires_at);
        Ok((Event::Renew { url_expires_at: ends }, request))
    }

    /// Observes the object now. An upload in a final state is returned as it is.
    pub async fn confirm_upload(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
    ) -> Result<Upload> {
        let upload = self.upload(by, id).await?;
        match self.observe_to_confirm(upload).await? {
            Confirmation::Settled(upload) => Ok(upload),
            Confirmation::Observed(upload, event) => {
                arrived(self.apply_within_limit(upload, &event).await?.upload)
            }
        }
    }

    /// Observes the object of an upload that its client confirms.
    pub(super) async fn observe_to_confirm(&self, upload: Upload) -> Result<Confirmation> {
        if upload.status().is_final() {
            return Ok(Confirmation::Settled(upload));
        }
        let event = self.observe_object(&upload, ConfirmedBy::Confirm).await?;
        // Only the reconciler records that a verified object is lost, because it checks that the
        // bucket is the right one.
        if upload.status() == Status::Uploaded && matches!(event, Event::Absent(_)) {
            return Err(AppError::NotArrived);
        }
        Ok(Confirmation::Observed(upload, event))
    }

    /// Ends an upload. An upload in a final state stays as it is.
    pub async fn delete_upload(&self, by: impl Into<Principal<'_>>, id: UploadId) -> Result<()> {
        let upload = self.upload(by, id).await?;
        self.apply(upload, &Event::Delete).await?;
        Ok(())
    }
}
