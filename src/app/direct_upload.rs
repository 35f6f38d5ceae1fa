//! The direct-upload fallback: the bytes come through this service and go on to the
//! store as they come. Memory per upload is about one part, whatever the file's size; beyond
//! that all uploads share a few places for parts, so that one alone has several on their way.
//!
//! The row is committed before the first byte is stored, and nothing is stored that
//! breaks a rule which can be seen beforehand. What fails later is ended: parts aborted,
//! the row cancelled.

mod file;
mod parts;

use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::Stream;

use self::file::{File, sentence};
use self::parts::Parts;
use super::create_upload::{NewUpload, note_created};
use super::tracks::WithUpload;
use super::{App, AppError, Result};
use crate::domain::checksum::Checksum;
use crate::domain::sniff;
use crate::domain::transition::{Event, Observation};
use crate::domain::upload::{ConfirmedBy, Declared, ObjectFacts, Strategy};
use crate::domain::verdict::RejectReason;
use crate::domain::{Owner, Policy, PolicyName, Status, TrackId, Upload, UploadId};
use crate::storage::{Part, PartIntegrity, PutOptions, Store, StoreError, Written};

/// What is known of a file before its bytes.
#[derive(Debug, Clone)]
pub struct DirectUpload {
    /// The track that it is for.
    pub track: TrackId,
    /// The rules; `tracks` by default.
    pub policy: Option<PolicyName>,
    /// The file's name, as the path has it.
    pub filename: String,
    /// The file's media type, where the client says one.
    pub content_type: Option<String>,
    /// The file's length in bytes, where the client says one.
    pub length: Option<u64>,
    /// Checksums of the file that the client sends along.
    pub digests: Vec<Checksum>,
}

impl App {
    /// Stores the file of a track from a stream of its bytes.
    pub async fn direct_upload<B>(
        &self,
        owner: &Owner,
        request: DirectUpload,
        body: B,
    ) -> Result<WithUpload>
    where
        B: Stream<Item = Result<Bytes>> + Unpin,
    {
        if !self.direct.enabled {
            return Err(AppError::Disabled("direct uploads are switched off here"));
        }
        let policy = self.policy(request.policy.as_ref())?;
        let store = self.store_of(policy)?;
        let content_type = sniff::informative(request.content_type.as_deref());
        let declared = Declared {
            filename: Some(request.filename),
            content_type: None,
            size: request.length,
            checksum: None,
        };
        policy.check_declared(&declared, "file")?;
        check_media_type(policy, content_type.as_deref())?;
        self.db.tracks().find(owner, request.track).await?.ok_or(AppError::NotFound("track"))?;

        let (part_size, checked) = (self.direct.part_size, store.capabilities.checked_parts);
        let mut file = File::new(body, policy, part_size, request.length, request.digests, checked);
        let first = file.next_part().await?;
        file.check_start(&declared, &first)?;
        let new = NewUpload {
            declared: Declared { content_type, ..declared },
            strategy: Some(Strategy::Direct),
            ..NewUpload::default()
        };
        let upload = self.new_upload(UploadId(self.ids.uuid()), owner, policy, new, policy.url_ttl);
        let upload = self.db.uploads().create(upload, Some(request.track)).await?;
        let upload = upload.ok_or(AppError::NotFound("track"))?;
        note_created(&upload);

        let (mut transfer, stored) = {
            let mut transfer = Transfer { app: self, store, policy, upload };
            let stored = transfer.store(&mut file, first).await;
            (transfer, stored)
        };
        match stored {
            Ok(written) => self.finish(owner, request.track, transfer.upload, written, file).await,
            Err(error) => {
                transfer.abandon().await;
                Err(error)
            }
        }
    }

    async fn finish<B>(
        &self,
        owner: &Owner,
        track: TrackId,
        upload: Upload,
        written: Written,
        file: File<'_, B>,
    ) -> Result<WithUpload> {
        let facts = ObjectFacts {
            etag: written.etag,
            version_id: written.version_id,
            size: file.size,
            content_type: file.media_type.clone().or(upload.declared.content_type.clone()),
            checksum: file.checksum(),
        };
        let by = ConfirmedBy::Direct;
        let event = Event::Observed(Observation { facts, verdict: Ok(()), by });
        let upload = self.apply(upload, &event).await?.upload;
        // Removed is fine: a newer upload of the track was faster.
        if !matches!(upload.status(), Status::Uploaded | Status::Removed) {
            return Err(AppError::Ended);
        }
        self.track(owner, track).await
    }
}

fn wrong(answer: String) -> AppError {
    StoreError::Protocol(answer).into()
}

fn check_media_type(policy: &Policy, content_type: Option<&str>) -> Result<()> {
    let declared =
        Declared { content_type: content_type.map(str::to_owned), ..Declared::default() };
    policy.check_declared(&declared, "file").map_err(|_| {
        let allowed = policy.allowed_content_types.join(", ");
        AppError::MediaType(format!("Content-Type must be one of: {allowed}"))
    })
}

/// An upload whose row is committed and whose bytes are on their way to the store.
struct Transfer<'a> {
    app: &'a App,
    store: &'a Store,
    policy: &'a Policy,
    upload: Upload,
}

impl Transfer<'_> {
    /// Stores the file: one put where it fits into a part, else a multipart upload.
    async fn store<B>(&mut self, file: &mut File<'_, B>, first: Bytes) -> Result<Written>
    where
        B: Stream<Item = Result<Bytes>> + Unpin,
    {
        let key = self.upload.key.as_str().to_owned();
        let content_type = file.media_type.clone().or(self.upload.declared.content_type.clone());
        let options = PutOptions { content_type, ..PutOptions::default() };
        if file.ended {
            self.check_size(file.size)?;
            file.check_digests()?;
            let put = self.store.objects.put(&key, first, &options).await;
            return self.or_stored(&key, file.size, put).await;
        }
        // Whatever becomes of this call and of this process, what it opens is found.
        let (token, due) = (self.app.ids.uuid(), self.app.now() + self.policy.grace);
        let intent = self.app.db.multipart_aborts().create_intent(&self.upload, token, due).await?;
        let options = PutOptions { checksum: file.checksum_of_parts(), ..options };
        let id = self.store.objects.create_multipart(&key, &options).await?;
        if let Err(error) = self.note_multipart(&id).await {
            // The row does not know the parts, so nobody else could abort them.
            self.app.abort_unknown(self.store, &self.upload, &id).await;
            return Err(error);
        }
        self.app.db.multipart_aborts().complete(&intent).await?;
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
        let done = self.store.objects.complete_multipart(&key, &id, &parts, false).await;
        let written = self.or_stored(&key, file.size, done).await?;
        self.check_whole(&key, &written, file.checksum_of_parts()).await?;
        Ok(written)
    }

    /// Compares what the store has made of the parts with what was sent, where their signatures
    /// left that out.
    async fn check_whole(
        &self,
        key: &str,
        written: &Written,
        sent: Option<Checksum>,
    ) -> Result<()> {
        let Some(sent) = sent else { return Ok(()) };
        let stored = self.store.objects.head(key).await?;
        let stored = stored.filter(|meta| meta.etag == written.etag);
        let mut kept = stored.iter().flat_map(|meta| &meta.checksums);
        match kept.find(|kept| kept.algorithm() == sent.algorithm()) {
            Some(kept) if *kept == sent => Ok(()),
            Some(_) => Err(wrong("the object is not the bytes that were sent".to_owned())),
            None => Err(wrong(format!("no {} of an object made of parts", sent.algorithm()))),
        }
    }

    /// Sends the file in parts, several at a time, and gives them once all have arrived.
    async fn send<B>(
        &mut self,
        file: &mut File<'_, B>,
        first: Bytes,
        parts: &mut Parts<'_>,
    ) -> Result<Vec<Part>>
    where
        B: Stream<Item = Result<Bytes>> + Unpin,
    {
        let (mut part, mut place) = (first, None);
        loop {
            let last = file.ended;
            if !parts.send(part, place) {
                return Err(AppError::field("file", self.policy.too_large()));
            }
            if last {
                return parts.all().await;
            }
            (part, place) = parts.read(file).await?;
            self.move_deadline().await?;
        }
    }

    /// The answer of a write may be lost when the write was not: then the object is there,
    /// and nobody but this upload writes to its key.
    async fn or_stored(
        &self,
        key: &str,
        size: u64,
        written: std::result::Result<Written, StoreError>,
    ) -> Result<Written> {
        let error = match written {
            Err(error @ (StoreError::Unavailable(_) | StoreError::NoSuchMultipart)) => error,
            other => return Ok(other?),
        };
        match self.store.objects.head(key).await {
            Ok(Some(meta)) if meta.size == size => {
                Ok(Written { etag: meta.etag, version_id: meta.version_id })
            }
            _ => Err(error.into()),
        }
    }

    /// A body that ended before its declared length is not the file.
    fn check_size(&self, size: u64) -> Result<()> {
        match self.upload.declared.size {
            Some(declared) if declared != size => {
                let reason = RejectReason::SizeMismatch;
                Err(AppError::field("file", sentence(self.policy, reason)))
            }
            _ => Ok(()),
        }
    }

    /// Puts the store's id on the row, so that whoever ends the upload can abort it.
    async fn note_multipart(&mut self, id: &str) -> Result<()> {
        let upload = Upload { multipart_id: Some(id.to_owned()), ..self.upload.clone() };
        self.save(upload).await
    }

    /// Keeps the deadline ahead of bytes that keep coming: one write for each half of
    /// the URL's life.
    async fn move_deadline(&mut self) -> Result<()> {
        let now = self.app.now();
        let half: TimeDelta = self.policy.url_ttl / 2;
        if self.upload.url_expires_at - now > half {
            return Ok(());
        }
        let url_expires_at = now + self.policy.url_ttl;
        self.save(Upload { url_expires_at, ..self.upload.clone() }).await
    }

    async fn save(&mut self, upload: Upload) -> Result<()> {
        use crate::db::uploads::{Change, Saved};
        let change = Change { upload, effects: vec![], policy: self.policy };
        match self.app.db.uploads().save(change, self.app.now()).await? {
            Saved::Done(upload) => {
                self.upload = upload;
                Ok(())
            }
            // Ended by a DELETE, or by the reconciler when a part took longer than the URL's
            // life and the grace together.
            Saved::Lost => Err(AppError::Ended),
        }
    }

    /// Ends an upload whose bytes did not come, and deletes what of it is stored. When
    /// that fails now, the row says what is due and the reconciler does it.
    async fn abandon(&mut self) {
        let multipart_id = self.upload.multipart_id.clone();
        match self.app.apply(self.upload.clone(), &Event::Delete).await {
            Ok(applied) => {
                // Who ended it first aborted its parts while some were on their way, and those
                // may have come after that (S3 API reference, `AbortMultipartUpload`).
                let upload = &applied.upload;
                if let Some(id) = &multipart_id
                    && !applied.changed
                {
                    self.app.abort_unknown(self.store, upload, id).await;
                }
                let parts = multipart_id.is_some();
                tracing::info!(upload = %upload.id, parts, "direct upload given up");
            }
            Err(error) => tracing::warn!(upload = %self.upload.id,
                error = &error as &dyn std::error::Error,
                "direct upload not ended; it expires by itself"),
        }
    }
}
