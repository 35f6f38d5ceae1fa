//! Creating POSTs with an `Idempotency-Key`: the same key and request give the same resource.

use std::time::Duration;

use uuid::Uuid;

use super::create_upload::{Created, NewUpload};
use super::tracks::WithUpload;
use super::{App, AppError, Result};
use crate::db::idempotency::{Claim, Reservation};
use crate::db::tracks::TrackFields;
use crate::domain::{Owner, Status, TrackId, UploadId};

/// How long an attempt has before another may take over: longer than any creation takes.
const LEASE: Duration = Duration::from_mins(1);

/// How often a renewal that others were faster with is begun anew; of all at once one gets
/// through each time.
const ROUNDS: usize = 16;

/// A key, and what came with it.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    /// As the client chose it.
    pub key: String,
    /// A hash of the request.
    pub fingerprint: String,
}

/// What a request with a key comes to.
#[derive(Debug)]
pub enum Attempt {
    /// There was no key.
    Plain,
    /// It is the first.
    First(Claim),
    /// An earlier one made this.
    Again(Uuid),
}

impl App {
    /// Reserves a key.
    pub async fn attempt(&self, owner: &Owner, key: Option<&IdempotencyKey>) -> Result<Attempt> {
        let Some(IdempotencyKey { key, fingerprint }) = key else { return Ok(Attempt::Plain) };
        let candidate = self.ids.uuid();
        let reserving = self.db.idempotency().reserve(owner, key, fingerprint, candidate, LEASE);
        match Box::pin(reserving).await? {
            Reservation::Held(claim) => Ok(Attempt::First(claim)),
            Reservation::Done(id) => Ok(Attempt::Again(id)),
            Reservation::Mismatch => Err(AppError::KeyMismatch),
            Reservation::InFlight => Err(AppError::KeyInFlight),
        }
    }

    /// Ends a first attempt that failed: where another made the resource meanwhile, that is
    /// found; else the key is free again.
    pub async fn give_up<E>(&self, claim: &Claim, error: E) -> Result<Uuid, E> {
        let done = self.db.idempotency().is_completed(claim).await;
        if matches!(done, Ok(true)) {
            return Ok(claim.resource);
        }
        if let Err(error) = self.db.idempotency().release(claim).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "an idempotency key was not released; its lease lapses");
        }
        Err(error)
    }

    /// Adds a track, or finds the one that the same request made.
    pub async fn create_track_once(
        &self,
        owner: &Owner,
        key: Option<&IdempotencyKey>,
        fields: TrackFields,
    ) -> Result<WithUpload> {
        let made = match self.attempt(owner, key).await? {
            Attempt::Plain => return Ok((self.create_track(owner, fields).await?, None)),
            Attempt::Again(id) => id,
            Attempt::First(claim) => {
                let id = TrackId(claim.resource);
                match self.db.tracks().create(id, owner, fields, self.now(), Some(&claim)).await {
                    Ok(track) => return Ok((track, None)),
                    Err(error) => self.give_up(&claim, error).await?,
                }
            }
        };
        self.track(owner, TrackId(made)).await
    }

    /// Creates an upload, or finds the one that the same request created and signs it afresh.
    /// What only keys need is boxed: a creation without one takes no room for it.
    pub async fn create_upload_once(
        &self,
        owner: &Owner,
        key: Option<&IdempotencyKey>,
        new: NewUpload,
    ) -> Result<Created> {
        let expires_in = new.expires_in;
        let made = match self.attempt(owner, key).await? {
            Attempt::Plain => return self.create_upload(owner, new).await,
            Attempt::Again(id) => id,
            Attempt::First(claim) => {
                match Box::pin(self.create_upload_as(owner, new, Some(&claim))).await {
                    Ok(created) => return Ok(created),
                    Err(error) => Box::pin(self.give_up(&claim, error)).await?,
                }
            }
        };
        let id = UploadId(made);
        let upload = self.upload(owner, id).await?;
        match upload.status() {
            Status::Pending | Status::Expired => {
                // Whoever sends the same request again at the same time renews the same row.
                for _ in 0..ROUNDS {
                    match Box::pin(self.renew_upload(owner, id, expires_in)).await {
                        Err(AppError::Contended) => {}
                        done => return done,
                    }
                }
                Err(AppError::Contended)
            }
            // There is nothing to send any more.
            _ => Ok(Created { upload, request: None }),
        }
    }
}
