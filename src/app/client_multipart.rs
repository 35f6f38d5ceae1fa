//! Multipart uploads that the client itself opens, fills and completes in the store. Each of its
//! requests is signed separately.

use chrono::TimeDelta;

use super::create_upload::NO_S3_MULTIPART;
use super::multipart::open_id;
use super::{App, AppError, Result};
use crate::domain::parts::Division;
use crate::domain::transition::{Event, TransitionError};
use crate::domain::{Principal, Status, Upload, UploadId};
use crate::storage::StoreError;
use crate::storage::signer::{Operation, PartRequest, SignedRequest};

/// A request that the client sends to the store, about an open multipart upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreCall {
    /// Uploads the part with this number.
    UploadPart(u16),
    /// Lists the parts.
    ListParts,
    /// Completes the upload.
    Complete,
    /// Aborts the upload.
    Abort,
}

impl App {
    /// Signs a request about a multipart upload that the client opened in the store. The first call
    /// records the store's id.
    ///
    /// # Errors
    /// If `opened` is not the id of this upload in the store ([`AppError::PartsGone`] if the store
    /// does not know it), or the upload has ended.
    pub async fn sign_store_call(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
        opened: &str,
        call: StoreCall,
        ttl: TimeDelta,
    ) -> Result<SignedRequest> {
        let upload = self.upload(by, id).await?;
        if upload.division() != Some(Division::ByClient) {
            return Err(AppError::field(
                "key",
                "The client does not divide the file of this upload into parts",
            ));
        }
        let upload = self.record_opened(upload, opened).await?;
        let (policy, store) = self.rules_of(&upload).await?;
        let now = self.now();
        let ends = (now + ttl).min(upload.created_at + policy.max_url_ttl);
        if ends - now < TimeDelta::seconds(1) {
            return Err(AppError::State(TransitionError::DeadlinePassed));
        }
        // Committed before a URL is returned, so that no part is sent for an expired upload.
        let upload = self.extend_deadline(upload, ends).await?;
        let part = PartRequest::default();
        let operation = match call {
            StoreCall::UploadPart(number) => {
                Operation::UploadPart { upload_id: opened, number, request: &part }
            }
            StoreCall::ListParts => Operation::ListParts { upload_id: opened },
            StoreCall::Complete => Operation::CompleteMultipart {
                upload_id: opened,
                write_once: upload.write_once && store.capabilities.multipart_write_once,
            },
            StoreCall::Abort => Operation::AbortMultipart { upload_id: opened },
        };
        Ok(store.signer.sign(upload.key.as_str(), operation, now, ends - now).await?)
    }

    /// Signs the completion of a multipart upload that the service opened and divided.
    pub async fn sign_completion(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
        ttl: TimeDelta,
    ) -> Result<SignedRequest> {
        let upload = self.upload(by, id).await?;
        let (_, store) = self.rules_of(&upload).await?;
        if !store.capabilities.s3_multipart {
            return Err(AppError::field("strategy", NO_S3_MULTIPART));
        }
        let upload = self.open_multipart(upload, None).await?;
        let opened = open_id(&upload)?;
        let write_once = upload.write_once && store.capabilities.multipart_write_once;
        let completion = Operation::CompleteMultipart { upload_id: opened, write_once };
        Ok(store.signer.sign(upload.key.as_str(), completion, self.now(), ttl).await?)
    }

    /// Records the store's id of a multipart upload that the client opened.
    async fn record_opened(&self, upload: Upload, opened: &str) -> Result<Upload> {
        if upload.status() != Status::Pending {
            return Err(TransitionError::TakesNoParts(upload.status()).into());
        }
        if upload.multipart_id.as_deref() == Some(opened) {
            return Ok(upload);
        }
        if upload.multipart_id.is_some() {
            return Err(AppError::field("uploadId", "The upload has another id in the store"));
        }
        if opened.is_empty() || !opened.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(AppError::field("uploadId", "Must be the id that the store returned"));
        }
        let (_, store) = self.rules_of(&upload).await?;
        // Only the store knows which key an id belongs to.
        match store.objects.list_parts(upload.key.as_str(), opened).await {
            Ok(_) => {}
            Err(StoreError::NoSuchMultipart) => return Err(AppError::PartsGone),
            Err(error) => return Err(error.into()),
        }
        let event = Event::MultipartOpened { multipart_id: opened.to_owned(), replaces: None };
        Ok(self.apply(upload, &event).await?.upload)
    }
}
