//! Attachments: attaches uploads to subjects, and reads and deletes the attachments of subjects. A
//! subject is the client's name for something that has a file, such as `album:42:cover`.

use std::collections::HashMap;

use super::{App, AppError, MAX_TRIES, Result};
use crate::db::Page;
use crate::db::attachments::AttachmentFilter;
use crate::domain::transition::Event;
use crate::domain::{Attachment, Owner, Status, Subject, Upload, UploadId};

/// An attachment with its uploads.
#[derive(Debug)]
pub struct AttachmentUploads {
    /// The attachment.
    pub attachment: Attachment,
    /// The newest upload.
    pub latest: Option<Upload>,
    /// The verified upload that is served.
    pub current: Option<Upload>,
}

impl App {
    /// Attaches an upload to a subject: at once if it is verified, otherwise as soon as it is. It
    /// takes the next number of the subject's sequence now. Attaching it again changes nothing.
    /// Returns the attachment and the status of the upload.
    ///
    /// # Errors
    /// If there is no such upload or track, or if the upload ended or is attached elsewhere.
    pub async fn attach(
        &self,
        owner: &Owner,
        subject: &Subject,
        id: UploadId,
    ) -> Result<(AttachmentUploads, Status)> {
        self.check_subject(owner, subject).await?;
        let upload = self.upload(owner, id).await?;
        let attach = Event::Attach { subject: subject.clone() };
        let status = self.apply(upload, &attach).await?.upload.status();
        Ok((self.attachment(owner, subject).await?, status))
    }

    /// The attachment of a subject.
    pub async fn attachment(&self, owner: &Owner, subject: &Subject) -> Result<AttachmentUploads> {
        let attachment = self.db.attachments().find(owner, subject).await?;
        let attachment = attachment.ok_or(AppError::NotFound("attachment"))?;
        let mut all = self.with_uploads(owner, vec![attachment]).await?;
        all.pop().ok_or(AppError::NotFound("attachment"))
    }

    /// A page of an owner's attachments with their uploads: two queries.
    pub async fn list_attachments(
        &self,
        owner: &Owner,
        filter: &AttachmentFilter,
    ) -> Result<Page<AttachmentUploads>> {
        let Page { items, next } = self.db.attachments().list(owner, filter).await?;
        Ok(Page { items: self.with_uploads(owner, items).await?, next })
    }

    async fn with_uploads(
        &self,
        owner: &Owner,
        attachments: Vec<Attachment>,
    ) -> Result<Vec<AttachmentUploads>> {
        let ids: Vec<UploadId> = attachments
            .iter()
            .flat_map(|of| of.latest_upload.into_iter().chain(of.current.map(|c| c.upload)))
            .collect();
        let uploads = self.db.uploads().find_many(owner, &ids).await?;
        let uploads: HashMap<_, _> =
            uploads.into_iter().map(|upload| (upload.id, upload)).collect();
        let with_uploads = |attachment: Attachment| {
            let find = |id: Option<UploadId>| id.and_then(|id| uploads.get(&id).cloned());
            let latest = find(attachment.latest_upload);
            let current = find(attachment.current.map(|current| current.upload));
            AttachmentUploads { attachment, latest, current }
        };
        Ok(attachments.into_iter().map(with_uploads).collect())
    }

    /// Ends every upload of a subject. The subject's sequence continues with the next upload.
    ///
    /// # Errors
    /// If the subject has no upload, or if other requests keep attaching uploads.
    pub async fn delete_attachment(&self, owner: &Owner, subject: &Subject) -> Result<()> {
        let attachment = self.db.attachments().find(owner, subject).await?;
        attachment.ok_or(AppError::NotFound("attachment"))?;
        for _ in 0..MAX_TRIES {
            while self.end_uploads(owner, subject).await? {}
            // Refused if an upload was attached in the meantime. The loop then ends that upload
            // too.
            if self.db.attachments().clear(owner, subject).await? {
                return Ok(());
            }
        }
        Err(AppError::Contended)
    }

    /// Deletes the recorded start of `unattached_retention` for policies that no longer have this
    /// setting. If it is set again later, existing uploads get the whole retention time.
    pub async fn forget_disabled_retentions(&self) -> Result<()> {
        let enabled = self.policies.values().filter(|policy| policy.unattached_retention.is_some());
        let names: Vec<_> = enabled.map(|policy| &policy.name).collect();
        Ok(self.db.attachments().stop_retention_except(&names).await?)
    }

    /// Fails if the subject belongs to a track that the owner does not have.
    pub(super) async fn check_subject(&self, owner: &Owner, subject: &Subject) -> Result<()> {
        let Some(track) = subject.track() else { return Ok(()) };
        self.db.tracks().find(owner, track).await?.ok_or(AppError::NotFound("track"))?;
        Ok(())
    }
}
