//! Completes an upload that was received in pieces: makes its object and verifies it.

use bytes::Bytes;

use super::writer::Writer;
use super::{Appended, TusError};
use crate::app::{AppError, Result};
use crate::domain::Status;
use crate::domain::transition::Event;
use crate::domain::tus::{Piece, StoredAs};
use crate::domain::upload::ConfirmedBy;
use crate::storage::{Part, PutOptions, StoreError};

impl Writer<'_> {
    /// Stores a whole file with one PUT, and verifies it.
    pub(super) async fn put_whole(&mut self, bytes: Bytes) -> Result<()> {
        let once = self.upload.write_once && self.store.capabilities.write_once_is_effective();
        let options = PutOptions {
            content_type: self.upload.declared.content_type.clone(),
            metadata: self.upload.metadata.clone(),
            object: self.policy.object.clone(),
            if_none_match: once,
            ..PutOptions::default()
        };
        match self.store.objects.put(self.upload.key.as_str(), bytes, &options).await {
            // An earlier request of this upload stored the file, and its response was lost.
            Ok(_) | Err(StoreError::PreconditionFailed) => {}
            Err(error) => return Err(error.into()),
        }
        self.verify().await
    }

    /// Makes the object from the stored parts, and verifies it. This can be repeated without harm,
    /// because the response to each step may be lost.
    pub(super) async fn finish(&mut self) -> Result<Appended> {
        let Some(multipart_id) = self.upload.multipart_id.clone() else {
            return Err(AppError::UploadEnded);
        };
        let pieces = self.app.db.tus().pieces(self.upload.id).await?;
        let parts: Vec<Part> = pieces.iter().filter_map(part).collect();
        if parts.iter().map(|part| part.size).sum::<u64>() != self.stored() {
            let what = "the recorded parts do not cover the whole file".to_owned();
            return Err(StoreError::Protocol(what).into());
        }
        let once = self.upload.write_once && self.store.capabilities.multipart_write_once;
        let key = self.upload.key.as_str();
        let done = self.store.objects.complete_multipart(key, &multipart_id, &parts, once).await;
        let parts_remain = match done {
            Ok(_) => false,
            // An earlier request completed the multipart upload and its response was lost, or it
            // was aborted.
            Err(StoreError::NoSuchMultipart) => return self.parts_are_gone().await,
            // An object with the key exists already, so the store keeps the parts.
            Err(StoreError::PreconditionFailed) => true,
            Err(error) => return Err(error.into()),
        };
        self.verify().await?;
        if parts_remain {
            self.app.abort_multipart(self.store, &self.upload, &multipart_id).await;
        } else {
            self.app.settle_pieces(self.store, &self.upload, &multipart_id).await;
        }
        Ok(self.complete())
    }

    /// Validates the object like every other object, and records the result.
    async fn verify(&mut self) -> Result<()> {
        let event = self.app.observe_object(&self.upload, ConfirmedBy::Direct).await?;
        self.upload = self.app.apply(self.upload.clone(), &event).await?.upload;
        match self.upload.status() {
            // The object is missing, or the upload was ended while its last bytes arrived.
            status @ (Status::Pending | Status::Expired | Status::Cancelled | Status::Missing) => {
                Err(TusError::Ended(status).into())
            }
            _ => Ok(()),
        }
    }

    /// Handles a multipart upload that the store does not know. If the object exists, an earlier
    /// request completed it. Otherwise the bytes are lost, and the client must start again.
    pub(super) async fn parts_are_gone(&mut self) -> Result<Appended> {
        let event = self.app.observe_object(&self.upload, ConfirmedBy::Direct).await?;
        let found = matches!(event, Event::Observed(_));
        let event = if found { event } else { Event::Delete };
        let multipart_id = self.upload.multipart_id.clone();
        self.upload = self.app.apply(self.upload.clone(), &event).await?.upload;
        if let Some(id) = multipart_id {
            self.app.settle_pieces(self.store, &self.upload, &id).await;
        }
        if found { Ok(self.complete()) } else { Err(TusError::Ended(self.upload.status()).into()) }
    }

    /// The progress of a complete upload.
    pub(super) fn complete(&self) -> Appended {
        let size = self.upload.state.facts().map(|facts| facts.size);
        let appended = self.appended();
        let stored = size.unwrap_or(appended.stored);
        Appended { stored, ..appended }
    }
}

fn part(piece: &Piece) -> Option<Part> {
    let StoredAs::Part(number) = piece.stored_as else { return None };
    let Piece { size, etag, checksum, .. } = piece.clone();
    Some(Part { number, etag, size, last_modified: None, checksum })
}
