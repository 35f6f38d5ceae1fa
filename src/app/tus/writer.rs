//! The writer of an upload: the one request that has its lease. It sends parts to the store, and
//! records the stored parts in the database.

use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::SemaphorePermit;

use super::lease::{LEASE, Lease};
use super::{Append, Appended, TusError, check_length};
use crate::app::{App, AppError, Result};
use crate::db::tus::Progress;
use crate::domain::checksum::Algorithm;
use crate::domain::limits::MAX_PARTS;
use crate::domain::transition::Event;
use crate::domain::tus::{Piece, StoredAs, TusUpload, least_part};
use crate::domain::{Policy, Status, Upload, UploadId};
use crate::storage::{PartIntegrity, Store, StoreError};

/// The deadline is extended at most once in this time, so that a client with small chunks does not
/// cause a write of the row for each chunk.
const STEP: TimeDelta = TimeDelta::minutes(1);

/// A part that is being sent to the store.
type InFlight<'a> = BoxFuture<'a, Result<Piece>>;

/// A pending upload whose lease this request has.
pub(super) struct Writer<'a> {
    pub(super) app: &'a App,
    pub(super) store: &'a Store,
    pub(super) policy: &'a Policy,
    pub(super) upload: Upload,
    pub(super) lease: Lease,
    /// The committed state.
    state: TusUpload,
    /// The committed tails.
    pub(super) tails: Vec<Piece>,
    /// A length to commit with the next pieces.
    new_length: Option<u64>,
    /// Pieces that are stored but not committed. If a request has a checksum, these are all its
    /// pieces.
    pub(super) held: Vec<Piece>,
    /// Whether pieces are committed only at the end of the request.
    pub(super) hold: bool,
    /// The offset after the last part that is stored or being sent.
    pub(super) parts_end: u64,
    pub(super) in_flight: Option<InFlight<'a>>,
    /// The permit to read the next part while one is being sent.
    pub(super) spare: Option<SemaphorePermit<'a>>,
    /// How long the upload waits for the next request. `None` if its deadline is not extended.
    ttl: Option<TimeDelta>,
}

impl<'a> Writer<'a> {
    pub(super) async fn new(
        app: &'a App,
        upload: Upload,
        lease: Lease,
        state: TusUpload,
        ttl: Option<TimeDelta>,
    ) -> Result<Self> {
        let (policy, store) = app.rules_of(&upload).await?;
        let tails = app.db.tus().tails(upload.id).await?;
        let parts_end = tails.first().map_or(state.stored, |tail| tail.start);
        Ok(Self {
            app,
            store,
            policy,
            upload,
            lease,
            state,
            tails,
            new_length: None,
            held: Vec::new(),
            hold: false,
            parts_end,
            in_flight: None,
            spare: None,
            ttl,
        })
    }

    /// The number of bytes that are stored and committed.
    pub(super) fn stored(&self) -> u64 {
        self.state.stored
    }

    /// The length of the file.
    pub(super) fn length(&self) -> Option<u64> {
        self.state.length
    }

    /// Whether all bytes are stored.
    pub(super) fn is_whole(&self) -> bool {
        self.state.length == Some(self.state.stored)
    }

    /// The maximum number of bytes of the file.
    pub(super) fn limit(&self) -> u64 {
        let most = self.policy.max_size_of(&self.upload.declared);
        self.state.length.unwrap_or(most)
    }

    /// The minimum size of the next part.
    pub(super) fn least(&self) -> u64 {
        let remaining = self.limit().saturating_sub(self.parts_end);
        let largest = self.store.capabilities.max_part_size;
        least_part(self.app.direct.part_size as u64, largest, remaining, self.state.next_part)
    }

    pub(super) fn appended(&self) -> Appended {
        let TusUpload { stored, length, metadata, .. } = self.state.clone();
        Appended { upload: self.upload.clone(), stored, length, metadata }
    }

    pub(super) async fn release(&mut self) {
        self.lease.release().await;
    }

    /// Stores the bytes of a request. If they are the last, it completes the file.
    pub(super) async fn append<B>(&mut self, request: Append, body: B) -> Result<Appended>
    where
        B: Stream<Item = Result<Bytes>> + Unpin,
    {
        if !request.may_begin_at(self.state.stored) {
            return Err(TusError::Offset { stored: self.state.stored }.into());
        }
        let Append { offset: sent_from, size, length, checksum, .. } = request;
        let offset = self.state.stored;
        let known = offset - sent_from;
        let (size, body) =
            (size.map(|size| size.saturating_sub(known)), without_first(known, body));
        let most = self.policy.max_size_of(&self.upload.declared);
        let length = check_length(self.state.length, length, offset, most)?;
        self.new_length = length.filter(|_| self.state.length.is_none());
        self.state.length = length;
        if size.is_some_and(|size| size > self.limit().saturating_sub(offset)) {
            return Err(TusError::TooLong { limit: self.limit() }.into());
        }
        self.extend_deadline().await?;
        let received = self.receive(body, size, checksum).await;
        // Wait for the part: a part that arrives after its multipart upload was aborted stays in
        // the store.
        if let Some(sending) = self.in_flight.take() {
            drop(sending.await);
        }
        match received {
            // The parts or a tail are missing. This is an error only if no other request has
            // replaced them.
            Err(AppError::Store(StoreError::NoSuchMultipart | StoreError::PreconditionFailed)) => {
                let (app, id, writer) = (self.app, self.upload.id, self.lease.writer);
                match app.db.tus().renew(id, writer, LEASE).await? {
                    Some(_) => self.parts_are_gone().await,
                    None => Err(lost(app, id).await),
                }
            }
            Err(error) => Err(error),
            Ok(()) if self.upload.status() != Status::Pending => Ok(self.complete()),
            Ok(()) if self.is_whole() => self.finish().await,
            Ok(()) => Ok(self.appended()),
        }
    }

    /// Starts to send the next part, after the previous part has arrived.
    pub(super) async fn send(&mut self, bytes: Bytes) -> Result<()> {
        self.arrive().await?;
        self.open_multipart().await?;
        let (app, id, writer) = (self.app, self.upload.id, self.lease.writer);
        let number = app.db.tus().next_part(id, writer).await?;
        let Some(number) = number else { return Err(lost(app, id).await) };
        if number > MAX_PARTS {
            let sentence = "The upload was interrupted too often; create a new upload";
            return Err(AppError::field("file", sentence));
        }
        self.state.next_part = number.saturating_add(1);
        let (start, size) = (self.parts_end, bytes.len() as u64);
        self.parts_end += size;
        let (store, key) = (self.store, self.upload.key.as_str().to_owned());
        let id = self.upload.multipart_id.clone().unwrap_or_default();
        let integrity = match self.checksum() {
            Some(_) => PartIntegrity::Checksum,
            None => PartIntegrity::Signature,
        };
        self.in_flight = Some(Box::pin(async move {
            let part = store.objects.upload_part(&key, &id, number, bytes, integrity).await?;
            let stored_as = StoredAs::Part(number);
            Ok(Piece { start, size, stored_as, etag: part.etag, checksum: part.checksum })
        }));
        self.spare = self.app.direct.spare_parts.try_acquire().ok();
        Ok(())
    }

    /// Waits for the part that is being sent, and commits it.
    pub(super) async fn arrive(&mut self) -> Result<()> {
        match self.in_flight.as_mut() {
            Some(sending) => {
                let sent = sending.await;
                self.record(sent).await
            }
            None => Ok(()),
        }
    }

    /// Commits a part that was sent, unless the request has a checksum.
    pub(super) async fn record(&mut self, sent: Result<Piece>) -> Result<()> {
        (self.in_flight, self.spare) = (None, None);
        self.held.push(sent?);
        if self.hold {
            return Ok(());
        }
        self.commit().await?;
        self.extend_deadline().await
    }

    /// Commits the pieces that are stored.
    pub(super) async fn commit(&mut self) -> Result<()> {
        let progress =
            Progress { pieces: std::mem::take(&mut self.held), length: self.new_length.take() };
        let (Some(first), Some(last)) = (progress.pieces.first(), progress.pieces.last()) else {
            return match progress.length {
                Some(_) => self.write(&progress).await,
                None => Ok(()),
            };
        };
        let (start, end) = (first.start, last.end());
        self.write(&progress).await?;
        let first_replaced = self.tails.partition_point(|tail| tail.start < start);
        let replaced = self.tails.split_off(first_replaced);
        let is_tail = |piece: &&Piece| matches!(piece.stored_as, StoredAs::Tail(_));
        self.tails.extend(progress.pieces.iter().filter(is_tail).cloned());
        self.state.stored = end;
        self.delete_tails(replaced).await;
        Ok(())
    }

    async fn write(&mut self, progress: &Progress) -> Result<()> {
        let (app, id, writer) = (self.app, self.upload.id, self.lease.writer);
        if app.db.tus().commit(id, writer, progress, LEASE).await? {
            return Ok(());
        }
        Err(lost(app, id).await)
    }

    /// Opens the multipart upload if it is not open yet.
    pub(super) async fn open_multipart(&mut self) -> Result<()> {
        if self.upload.multipart_id.is_none() {
            let (upload, checksum) = (self.upload.clone(), self.checksum());
            self.upload = self.app.open_multipart_with(upload, None, checksum).await?;
        }
        Ok(())
    }

    /// The algorithm of the parts' checksums, if they have any.
    fn checksum(&self) -> Option<Algorithm> {
        self.state.checked_parts.then_some(Algorithm::Crc64nvme)
    }

    async fn extend_deadline(&mut self) -> Result<()> {
        let Some(ttl) = self.ttl else { return Ok(()) };
        let until = self.app.now() + ttl;
        if until - self.upload.url_expires_at < STEP.min(ttl / 10) {
            return Ok(());
        }
        let event = Event::ExtendDeadline { url_expires_at: until };
        let upload = self.app.apply(self.upload.clone(), &event).await?.upload;
        match upload.status() {
            Status::Pending => self.upload = upload,
            status => return Err(TusError::Ended(status).into()),
        }
        Ok(())
    }
}

/// The reason why the lease was lost.
async fn lost(app: &App, id: UploadId) -> AppError {
    match app.db.uploads().find_any_owner(id).await {
        Ok(Some(upload)) if upload.status() == Status::Pending => TusError::Busy.into(),
        Ok(Some(upload)) => TusError::Ended(upload.status()).into(),
        Ok(None) => TusError::Ended(Status::Removed).into(),
        Err(error) => error.into(),
    }
}

/// A body without its first `count` bytes.
fn without_first<B>(mut count: u64, body: B) -> impl Stream<Item = Result<Bytes>> + Unpin
where
    B: Stream<Item = Result<Bytes>> + Unpin,
{
    body.map(move |chunk| {
        let mut bytes = chunk?;
        let skipped = bytes.len().min(usize::try_from(count).unwrap_or(usize::MAX));
        count -= skipped as u64;
        Ok(bytes.split_off(skipped))
    })
}
