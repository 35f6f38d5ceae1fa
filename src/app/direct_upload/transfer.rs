//! The transfer of a direct upload's bytes to the store.

use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::Stream;

use super::file::File;
use super::parts::Parts;
use crate::app::observe::checksum_of;
use crate::app::{App, AppError, Result};
use crate::domain::checksum::Checksum;
use crate::domain::rules::size_mismatch;
use crate::domain::transition::Event;
use crate::domain::{Policy, Status, Upload};
use crate::storage::{ObjectMeta, Part, PartIntegrity, PutOptions, Store, StoreError, Written};

/// An upload whose row is committed and whose bytes are being sent to the store.
pub(super) struct Transfer<'a> {
    pub(super) app: &'a App,
    pub(super) store: &'a Store,
    pub(super) policy: &'a Policy,
    pub(super) upload: Upload,
    /// The media type to store if the type of the bytes is unknown.
    content_type: Option<String>,
    /// The multipart upload that this transfer opened.
    opened: Option<String>,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(app: &'a App, store: &'a Store, policy: &'a Policy, upload: Upload) -> Self {
        let content_type = upload.declared.content_type.clone();
        Self { app, store, policy, upload, content_type, opened: None }
    }

    /// Stores this media type if the type of the bytes is unknown and none was declared.
    pub(super) fn with_content_type(self, content_type: Option<String>) -> Self {
        let content_type = self.content_type.or(content_type);
        Self { content_type, ..self }
    }

    /// Stores the file with one PUT if it fits into a part, otherwise as a multipart upload.
    pub(super) async fn store<B>(&mut self, file: &mut File<'_, B>, first: Bytes) -> Result<Written>
    where
        B: Stream<Item = Result<Bytes>> + Unpin,
    {
        let key = self.upload.key.as_str().to_owned();
        let content_type = file.media_type.clone().or(self.content_type.clone());
        let metadata = self.upload.metadata.clone();
        let (capabilities, once) = (&self.store.capabilities, self.upload.write_once);
        let object = self.policy.object.clone();
        let options = PutOptions { content_type, metadata, object, ..PutOptions::default() };
        if file.ended {
            self.check_size(file.size)?;
            file.check_digests()?;
            let if_none_match = once && capabilities.write_once_is_effective();
            let options = PutOptions { if_none_match, ..options };
            let put = self.store.objects.put(&key, first, &options).await;
            return self.or_stored(&key, file, put).await;
        }
        let if_none_match = once && capabilities.multipart_write_once;
        let options = PutOptions { checksum: file.checksum_of_parts(), ..options };
        let id = self.open_multipart(&key, &options).await?;
        let (store, spare) = (self.store, &self.app.direct.spare_parts);
        let integrity = match options.checksum {
            Some(_) => PartIntegrity::Checksum,
            None => PartIntegrity::Signature,
        };
        let mut parts = Parts::new(&*store.objects, spare, &key, &id, integrity);
        let sent = self.send(file, first, &mut parts).await;
        if sent.is_err() {
            parts.settle().await;
        }
        let parts = sent?;
        self.check_size(file.size)?;
        file.check_digests()?;
        self.check_still_pending().await?;
        let done = self.store.objects.complete_multipart(&key, &id, &parts, if_none_match).await;
        let written = self.or_stored(&key, file, done).await?;
        self.check_object(&key, &written, file.checksum_of_parts()).await?;
        Ok(written)
    }

    /// Opens a multipart upload and records its id, so that it is aborted if the upload ends.
    async fn open_multipart(&mut self, key: &str, options: &PutOptions) -> Result<String> {
        // If this process ends before the id is recorded, this record is used to find the multipart
        // upload.
        let (token, due) = (self.app.ids.uuid(), self.app.now() + self.policy.grace);
        let aborts = self.app.db.multipart_aborts();
        let intent = aborts.create_intent(&self.upload, token, due).await?;
        let id = self.store.objects.create_multipart(key, options).await?;
        // The multipart upload of another transfer for the same upload. That transfer has failed,
        // or will lose to this one.
        let replaced = self.upload.multipart_id.clone();
        let event = Event::MultipartOpened { multipart_id: id.clone(), replaces: replaced.clone() };
        let applied = self.apply(&event).await;
        if applied.is_err() || self.upload.multipart_id.as_ref() != Some(&id) {
            // The row does not have the id, so no other code would abort the parts.
            self.app.abort_unrecorded(self.store, &self.upload, &id).await;
            return Err(applied.err().unwrap_or(AppError::UploadEnded));
        }
        self.opened = Some(id.clone());
        aborts.complete(&intent).await?;
        if let Some(replaced) = replaced {
            self.app.abort_unrecorded(self.store, &self.upload, &replaced).await;
        }
        Ok(id)
    }

    /// Fails if the upload has ended, or if another transfer has replaced this one.
    async fn check_still_pending(&self) -> Result<()> {
        let row = self.app.db.uploads().find_any_owner(self.upload.id).await?;
        let ours = |row: &Upload| {
            row.status() == Status::Pending && row.multipart_id == self.upload.multipart_id
        };
        if row.as_ref().is_some_and(ours) { Ok(()) } else { Err(AppError::UploadEnded) }
    }

    /// Compares the object that the store assembled from the parts with the bytes that were sent.
    /// Only needed if the signatures of the parts did not cover the bytes.
    async fn check_object(
        &self,
        key: &str,
        written: &Written,
        sent: Option<Checksum>,
    ) -> Result<()> {
        let Some(sent) = sent else { return Ok(()) };
        let stored = self.store.objects.head(key).await?;
        let stored = stored.filter(|meta| meta.etag == written.etag);
        let mut checksums = stored.iter().flat_map(|meta| &meta.checksums);
        match checksums.find(|stored| stored.algorithm() == sent.algorithm()) {
            Some(stored) if *stored == sent => Ok(()),
            Some(_) => Err(protocol("the object differs from the bytes that were sent".to_owned())),
            None => Err(protocol(format!(
                "the store returned no {} for an object made of parts",
                sent.algorithm()
            ))),
        }
    }

    /// Sends the file in parts, several at a time, and returns them after all have arrived.
    async fn send<B>(
        &mut self,
        file: &mut File<'_, B>,
        first: Bytes,
        parts: &mut Parts<'_>,
    ) -> Result<Vec<Part>>
    where
        B: Stream<Item = Result<Bytes>> + Unpin,
    {
        let (mut part, mut permit) = (first, None);
        loop {
            let last = file.ended;
            if !parts.send(part, permit) {
                return Err(AppError::field("file", self.policy.too_large(&self.upload.declared)));
            }
            if last {
                return parts.all().await;
            }
            (part, permit) = parts.read(file).await?;
            self.extend_deadline().await?;
        }
    }

    /// Returns the result of a write. After some errors the object may exist, because only the
    /// response was lost. Another request may also have stored another file, so the object is
    /// compared with the file that was sent.
    async fn or_stored<B>(
        &self,
        key: &str,
        file: &File<'_, B>,
        written: std::result::Result<Written, StoreError>,
    ) -> Result<Written> {
        let error = match written {
            Err(
                error @ (StoreError::Unavailable(_)
                | StoreError::NoSuchMultipart
                | StoreError::PreconditionFailed),
            ) => error,
            other => return Ok(other?),
        };
        match self.store.objects.head(key).await {
            Ok(Some(meta)) if self.is_file(key, &meta, file).await => {
                Ok(Written { etag: meta.etag, version_id: meta.version_id })
            }
            _ => Err(error.into()),
        }
    }

    /// Whether an object is known to be the file that was sent.
    async fn is_file<B>(&self, key: &str, meta: &ObjectMeta, file: &File<'_, B>) -> bool {
        let Some(sum) = file.hash().filter(|_| meta.size == file.size) else { return false };
        let is_stored =
            meta.checksums.iter().any(|is_stored| is_stored.algorithm() == sum.algorithm());
        (is_stored || meta.size <= self.policy.verify_max_read)
            && matches!(checksum_of(self.store, key, meta, &sum).await, Ok(found) if found == sum)
    }

    /// Refuses a body that ended before or after its declared length.
    fn check_size(&self, size: u64) -> Result<()> {
        match self.upload.declared.size {
            Some(declared) if declared != size => {
                Err(AppError::field("file", size_mismatch(declared, size)))
            }
            _ => Ok(()),
        }
    }

    /// Extends the deadline while bytes arrive. Writes the row at most once in half of the URL's
    /// lifetime.
    pub(super) async fn extend_deadline(&mut self) -> Result<()> {
        let now = self.app.now();
        let half: TimeDelta = self.policy.url_ttl / 2;
        if self.upload.url_expires_at - now > half {
            return Ok(());
        }
        let url_expires_at = now + self.policy.url_ttl;
        self.apply(&Event::ExtendDeadline { url_expires_at }).await
    }

    /// Applies an event to the pending upload.
    ///
    /// # Errors
    /// [`AppError::UploadEnded`] if the upload has ended: by a DELETE, or by the reconciler if a
    /// part took longer than the URL's lifetime plus the grace.
    async fn apply(&mut self, event: &Event) -> Result<()> {
        match self.app.apply(self.upload.clone(), event).await {
            Ok(applied) if applied.upload.status() == Status::Pending => {
                self.upload = applied.upload;
                let replaced = self.opened.is_some() && self.opened != self.upload.multipart_id;
                if replaced { Err(AppError::UploadEnded) } else { Ok(()) }
            }
            Ok(_) | Err(AppError::State(_)) => Err(AppError::UploadEnded),
            Err(error) => Err(error),
        }
    }

    /// Aborts the parts after an error. The row does not change and still has the id of the
    /// multipart upload. The next transfer replaces the id.
    pub(super) async fn discard_parts(&self) {
        if let Some(id) = &self.opened {
            self.app.abort_unrecorded(self.store, &self.upload, id).await;
        }
    }

    /// Ends the upload after an error, and aborts its parts. If that fails, the upload expires, and
    /// its parts are aborted then.
    pub(super) async fn abandon(&mut self) {
        let multipart_id = self.upload.multipart_id.clone();
        match self.app.apply(self.upload.clone(), &Event::Delete).await {
            Ok(applied) => {
                // The upload was ended and its parts were aborted while parts were being sent.
                // These parts may have arrived after the abort (S3 API reference,
                // `AbortMultipartUpload`).
                let upload = &applied.upload;
                if let Some(id) = &multipart_id
                    && !applied.changed
                {
                    self.app.abort_unrecorded(self.store, upload, id).await;
                }
                let parts = multipart_id.is_some();
                tracing::info!(upload = %upload.id, parts, "direct upload abandoned");
            }
            Err(error) => tracing::warn!(upload = %self.upload.id,
                error = &error as &dyn std::error::Error,
                "direct upload not ended; it will expire"),
        }
    }
}

fn protocol(what: String) -> AppError {
    StoreError::Protocol(what).into()
}
