//! Tails: bytes that are too few for a part. Each tail is an object.

use bytes::{Bytes, BytesMut};

use super::writer::Writer;
use crate::app::{App, Result};
use crate::domain::object_settings::ObjectSettings;
use crate::domain::tus::{Piece, StoredAs};
use crate::domain::upload::Strategy;
use crate::domain::{ObjectKey, Status, Upload, UploadId};
use crate::storage::{ListRequest, PutOptions, Store, StoreError};

/// The maximum size in bytes of a tail that is joined with the next one. The next one must be at
/// least as large. So a client that sends single bytes creates few objects, and each byte is
/// written only a few times.
const SMALL: u64 = 256 << 10;

impl Writer<'_> {
    /// Saves bytes that follow the stored bytes as a tail, together with small tails before them.
    /// Returns the piece to commit.
    pub(super) async fn save_tail(&mut self, start: u64, bytes: Bytes) -> Result<Piece> {
        let (store, key) = (self.store, self.upload.key.clone());
        let (mut start, mut bytes) = (start, bytes);
        for tail in self.tails.clone().iter().rev() {
            if tail.end() != start || tail.size > SMALL || tail.size > bytes.len() as u64 {
                break;
            }
            let before = read_tail(store, &key, tail).await?;
            let mut joined = BytesMut::with_capacity(before.len() + bytes.len());
            joined.extend_from_slice(&before);
            joined.extend_from_slice(&bytes);
            (start, bytes) = (tail.start, joined.freeze());
        }
        let writer = self.lease.writer;
        let (size, stored_as) = (bytes.len() as u64, StoredAs::Tail(writer));
        let key = tail_key(&key, writer)?;
        // A tail is stored for a short time: it has the encryption of the file, but not its storage
        // class.
        let ObjectSettings { sse, kms_key_id, .. } = self.policy.object.clone();
        let object = ObjectSettings { sse, kms_key_id, ..ObjectSettings::default() };
        let options = PutOptions { object, ..PutOptions::default() };
        let written = store.objects.put(&key, bytes, &options).await?;
        Ok(Piece { start, size, stored_as, etag: written.etag, checksum: None })
    }

    /// Reads the tails into a buffer of at least `capacity` bytes. They start at the first byte
    /// after the last part.
    pub(super) async fn load_tails(&mut self, capacity: usize) -> Result<BytesMut> {
        let (store, key) = (self.store, self.upload.key.clone());
        let mut buffer = BytesMut::with_capacity(capacity);
        for tail in self.tails.clone() {
            buffer.extend_from_slice(&read_tail(store, &key, &tail).await?);
        }
        Ok(buffer)
    }

    /// Deletes tails that a commit has replaced. If this fails, they are deleted when the upload
    /// ends.
    pub(super) async fn delete_tails(&mut self, replaced: Vec<Piece>) {
        let (store, key) = (self.store, self.upload.key.clone());
        for tail in replaced {
            let StoredAs::Tail(writer) = tail.stored_as else { continue };
            let Ok(key) = tail_key(&key, writer) else { continue };
            if let Err(error) = store.objects.delete(&key).await {
                tracing::debug!(
                    key,
                    error = &error as &dyn std::error::Error,
                    "a tail was not deleted; it is deleted when the upload ends"
                );
            }
        }
    }
}

async fn read_tail(store: &Store, key: &ObjectKey, tail: &Piece) -> Result<Bytes> {
    let StoredAs::Tail(writer) = tail.stored_as else { return Err(other_size(tail).into()) };
    let key = tail_key(key, writer)?;
    let bytes = store.objects.read(&key, 0..tail.size, &tail.etag).await?;
    if bytes.len() as u64 == tail.size { Ok(bytes) } else { Err(other_size(tail).into()) }
}

fn tail_key(key: &ObjectKey, writer: i64) -> Result<String> {
    let of_others = || StoreError::Protocol("this service did not create the key".to_owned());
    Ok(key.tail(writer).ok_or_else(of_others)?)
}

fn other_size(tail: &Piece) -> StoreError {
    StoreError::Protocol(format!(
        "the object of a tail does not have its recorded size of {} bytes",
        tail.size
    ))
}

impl App {
    /// Deletes the tails of an upload that has ended. Does nothing for uploads that were not
    /// received in pieces.
    pub(in crate::app) async fn delete_pieces(
        &self,
        store: &Store,
        id: UploadId,
        key: &ObjectKey,
    ) -> Result<()> {
        let row = self.db.uploads().find_any_owner(id).await?;
        let needed =
            |row: &Upload| row.status() == Status::Pending || row.strategy != Strategy::Tus;
        if row.as_ref().is_some_and(needed) {
            return Ok(());
        }
        self.db.tus().end(id).await?;
        let Some(prefix) = key.tails() else { return Ok(()) };
        let mut request = ListRequest { prefix, ..ListRequest::default() };
        loop {
            let page = store.objects.list(&request).await?;
            for object in page.objects {
                store.objects.delete(&object.key).await?;
            }
            request.token = page.next;
            if request.token.is_none() {
                return Ok(());
            }
        }
    }
}
