//! Direct upload of the file of an existing upload.

use bytes::Bytes;
use futures_util::Stream;

use super::file::File;
use super::transfer::Transfer;
use super::{SentFile, check_media_type};
use crate::app::{App, AppError, Result};
use crate::domain::rules::size_mismatch;
use crate::domain::sniff;
use crate::domain::transition::{Event, TransitionError};
use crate::domain::upload::{Declared, Strategy};
use crate::domain::{Principal, Status, Upload, UploadId};
use crate::storage::StoreError;

impl App {
    /// Stores the file of a pending or expired upload from a stream of bytes. After an error, the
    /// upload still waits for its file, and the client can send it again.
    ///
    /// # Errors
    /// If the upload takes no file ([`TransitionError::TakesNoFile`]), the file breaks a rule or is
    /// not the declared one, another request was first ([`AppError::UploadEnded`]), or the body,
    /// the store or the database fails.
    pub async fn upload_content<B>(
        &self,
        by: impl Into<Principal<'_>>,
        id: UploadId,
        sent: SentFile,
        body: B,
    ) -> Result<Upload>
    where
        B: Stream<Item = Result<Bytes>> + Unpin,
    {
        let by = by.into();
        self.require_direct()?;
        let upload = self.upload_without_file(by, id).await?;
        let (policy, store) = self.rules_of(&upload).await?;
        let content_type = sniff::informative(sent.content_type.as_deref());
        check_media_type(policy, content_type.as_deref())?;
        let declared = declared(&upload, sent.length)?;
        let Declared { size, max_size, .. } = declared;
        policy.check_declared(&Declared { size, max_size, ..Declared::default() }, "file")?;
        // The declared checksum is recorded.
        let digests = upload.declared.checksum.clone().into_iter().chain(sent.digests).collect();
        let (part_size, checked) =
            (self.direct.part_size_for(store), store.capabilities.checked_parts);
        let mut file = File::new(body, policy, part_size, declared.size, digests, checked)
            .with_max_size(max_size);
        let first = file.next_part().await?;
        file.check_start(&declared, &first)?;

        // The first part can take a long time. The upload may have its file by then.
        let upload = self.upload_without_file(by, id).await?;
        let upload = if upload.status() == Status::Expired {
            self.require_unexpired(by)?;
            let renew = Event::Renew { url_expires_at: self.now() + policy.url_ttl };
            self.apply(upload, &renew).await?.upload
        } else {
            upload
        };
        let mut transfer =
            Transfer::new(self, store, policy, upload).with_content_type(content_type);
        transfer.extend_deadline().await?;
        match transfer.store(&mut file, first).await {
            Ok(written) => self.record_file(transfer.upload, written, file).await,
            Err(error) => {
                transfer.discard_parts().await;
                Err(self.explain(by, id, error).await)
            }
        }
    }

    /// An upload of this caller that takes a file from this service.
    async fn upload_without_file(&self, by: Principal<'_>, id: UploadId) -> Result<Upload> {
        let upload = self.upload(by, id).await?;
        let elsewhere = match upload.strategy {
            Strategy::Multipart => Some("multipart: send its parts to the store"),
            Strategy::Tus => Some("tus: send its bytes with the protocol that created it"),
            Strategy::Put | Strategy::Post | Strategy::Direct => None,
        };
        if let Some(elsewhere) = elsewhere {
            return Err(AppError::field("id", format!("The upload's strategy is {elsewhere}")));
        }
        match upload.status() {
            Status::Pending | Status::Expired => Ok(upload),
            status => Err(TransitionError::TakesNoFile(status).into()),
        }
    }

    /// The error for the client. If another request stored a file first, the error says so.
    async fn explain(&self, by: Principal<'_>, id: UploadId, error: AppError) -> AppError {
        if !matches!(error, AppError::Store(StoreError::PreconditionFailed)) {
            return error;
        }
        match self.confirm_upload(by, id).await {
            Ok(upload) => TransitionError::TakesNoFile(upload.status()).into(),
            Err(error) => error,
        }
    }
}

/// The declaration, completed with the length of the body.
fn declared(upload: &Upload, length: Option<u64>) -> Result<Declared> {
    match (upload.declared.size, length) {
        (Some(declared), Some(sent)) if declared != sent => {
            Err(AppError::field("file", size_mismatch(declared, sent)))
        }
        (size, sent) => Ok(Declared { size: size.or(sent), ..upload.declared.clone() }),
    }
}
