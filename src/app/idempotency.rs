//! Idempotent creation: a request that is repeated with the same `Idempotency-Key` returns the
//! resource that the first request created.
//!
//! A use case that creates a resource for a client calls [`App::idempotent`] with a function that
//! creates it and a function that loads it.

use std::time::Duration;

use uuid::Uuid;

use super::{App, AppError, Result};
use crate::db::idempotency::{Claim, Reservation};
use crate::domain::Owner;

/// How long a reservation protects an attempt: longer than any creation takes. After a crash, the
/// next attempt must wait that long.
const LEASE: Duration = Duration::from_mins(1);

/// The `Idempotency-Key` of a request, with a hash of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key, as chosen by the client.
    pub key: String,
    /// A hash of method, path, query and body.
    pub fingerprint: String,
}

impl App {
    /// Creates a resource once per owner and key.
    ///
    /// `create` gets the claim on the key; without a key there is no claim. `create` must give the
    /// resource the claim's id, and complete the claim in the transaction that creates the
    /// resource. `load` returns the resource that an earlier request created.
    ///
    /// Fails with [`AppError::KeyMismatch`] if the key belongs to another request, with
    /// [`AppError::KeyInFlight`] while the first request is in progress, and with the errors of
    /// `create` and `load`. After an error of `create` the key is free again.
    pub async fn idempotent<T, E, C, L>(
        &self,
        owner: &Owner,
        key: Option<&IdempotencyKey>,
        create: impl FnOnce(Option<Claim>) -> C,
        load: impl FnOnce(Uuid) -> L,
    ) -> Result<T, E>
    where
        E: From<AppError>,
        C: Future<Output = Result<T, E>>,
        L: Future<Output = Result<T, E>>,
    {
        match key {
            None => create(None).await,
            // Boxed, so that a creation without a key does not need the memory.
            Some(key) => Box::pin(self.create_or_load(owner, key, create, load)).await,
        }
    }

    async fn create_or_load<T, E, C, L>(
        &self,
        owner: &Owner,
        key: &IdempotencyKey,
        create: impl FnOnce(Option<Claim>) -> C,
        load: impl FnOnce(Uuid) -> L,
    ) -> Result<T, E>
    where
        E: From<AppError>,
        C: Future<Output = Result<T, E>>,
        L: Future<Output = Result<T, E>>,
    {
        let IdempotencyKey { key, fingerprint } = key;
        let id = self.ids.uuid();
        let reserved = self.db.idempotency().reserve(owner, key, fingerprint, id, LEASE).await;
        let claim = match reserved.map_err(AppError::from)? {
            Reservation::Held(claim) => claim,
            Reservation::Done(id) => return load(id).await,
            Reservation::Mismatch => return Err(AppError::KeyMismatch.into()),
            Reservation::InFlight => return Err(AppError::KeyInFlight.into()),
        };
        match create(Some(claim.clone())).await {
            Ok(created) => Ok(created),
            Err(error) => load(self.release_claim(&claim, error).await?).await,
        }
    }

    /// Ends a failed attempt. Returns the id of the resource if another attempt created it in the
    /// meantime. Otherwise releases the key and returns the error.
    pub async fn release_claim<E>(&self, claim: &Claim, error: E) -> Result<Uuid, E> {
        if matches!(self.db.idempotency().is_completed(claim).await, Ok(true)) {
            return Ok(claim.resource);
        }
        if let Err(error) = self.db.idempotency().release(claim).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "an idempotency key was not released; its lease will expire");
        }
        Err(error)
    }
}
