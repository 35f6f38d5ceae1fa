//! The use cases, one file each. A use case that changes an upload loads it, decides by a
//! transition, saves the result, and then executes the effects.
//!
//! Handlers, workers and the reconciler call the use cases and decide nothing themselves. To add a
//! use case, add a file here with an `impl App`, named after what it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::TimeDelta;

use bucket_identity::BucketTrust;
use database_clock::ClockOffset;
use inspections::Inspectors;
use locations::Locations;

use crate::auth::UploadTokenVerifier;
use crate::db::{Db, DbError};
use crate::domain::damage::DamageLimit;
use crate::domain::parts::PartsMismatch;
use crate::domain::policy::FieldErrors;
use crate::domain::transition::TransitionError;
use crate::domain::upload_token::TokenError;
use crate::domain::{Clock, IdSource, Policy, PolicyName, Principal, Timestamp, Upload};
use crate::storage::signer::SignError;
use crate::storage::{Store, StoreError};

pub mod aborts;
pub mod attachments;
pub mod bucket_identity;
pub mod changes;
pub mod client_multipart;
pub mod create_upload;
pub mod damage;
pub mod database_clock;
pub mod deliveries;
pub mod direct_upload;
pub mod download;
pub mod ended_urls;
pub mod events;
pub mod idempotency;
mod inspect_media;
pub mod inspections;
pub mod list_uploads;
pub mod locations;
pub mod multipart;
pub mod observe;
pub mod readiness;
pub mod redirect_upload;
pub mod retention;
pub mod runs;
pub mod stats;
pub mod tracks;
pub mod transitions;
pub mod turns;
pub mod tus;
pub mod upload_batches;
pub mod upload_tokens;
pub mod uploads;
pub mod verify;
pub mod webhooks;

/// Why a use case failed.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The resource does not exist, or belongs to another owner.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The input is invalid.
    #[error("{0}")]
    Invalid(FieldErrors),
    /// The policy does not accept the media type of the body.
    #[error("{0}")]
    MediaType(String),
    /// The object is not in the store yet.
    #[error("the object is not in the store yet")]
    NotArrived,
    /// The parts in the store do not form the complete file.
    #[error(transparent)]
    Parts(#[from] PartsMismatch),
    /// The store aborted the multipart upload, or it was completed earlier.
    #[error("the store no longer has the parts; presign the upload again and send all parts")]
    PartsGone,
    /// The file of the track has not arrived yet.
    #[error("the file has not arrived yet")]
    FilePending,
    /// The file has arrived and is being inspected.
    #[error("the file is being inspected")]
    FileInspecting,
    /// The operation is not possible in the current state.
    #[error(transparent)]
    State(#[from] TransitionError),
    /// The idempotency key was used for another request before.
    #[error("the Idempotency-Key was used for another request")]
    KeyMismatch,
    /// The first request with the idempotency key is in progress.
    #[error("the first request with this Idempotency-Key is in progress")]
    KeyInFlight,
    /// The limit of waiting requests of all owners is reached.
    #[error("too many requests are waiting")]
    TooManyWaiters,
    /// The limit of waiting requests of an owner is reached.
    #[error("at most {0} requests of an owner can wait at the same time")]
    ShareOfWaiters(usize),
    /// Other requests changed the same resource during each attempt.
    #[error("other requests changed the resource at the same time; try again")]
    Contended,
    /// A run in progress may delete the object at the same time.
    #[error("a run in progress may delete the object; try again when it has ended")]
    RunMayDelete,
    /// The upload ended while its bytes were being received.
    #[error("the upload ended while its bytes were being received")]
    UploadEnded,
    /// The body of the request is incomplete or is not a form.
    #[error("{0}")]
    Body(String),
    /// The feature is disabled in this installation.
    #[error("{0}")]
    Disabled(&'static str),
    /// The caller's upload token does not allow the request.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The policy of a row is no longer configured, or a location that is not an upload's is
    /// unknown.
    #[error("`{0}` is no longer configured")]
    Unconfigured(String),
    /// The store of a former location is no longer configured.
    #[error(
        "`storage.{store}` with the bucket `{bucket}` is no longer configured, but a policy has \
         files there; configure it again"
    )]
    StoreUnconfigured {
        /// The name of the store.
        store: String,
        /// Its bucket.
        bucket: String,
    },
    /// The policy's bucket is not known to be this database's.
    #[error(
        "the policy `{0}` accepts no new uploads: its bucket is not known to belong to this \
         service's database"
    )]
    BucketMismatch(PolicyName),
    /// A request for an upload that is received in pieces is refused.
    #[error(transparent)]
    Tus(#[from] tus::TusError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A request could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl AppError {
    /// Invalid input: one sentence about one field.
    pub fn field(field: &str, sentence: impl Into<String>) -> Self {
        Self::Invalid(FieldErrors::one(field, sentence))
    }
}

impl From<FieldErrors> for AppError {
    fn from(errors: FieldErrors) -> Self {
        Self::Invalid(errors)
    }
}

/// The maximum number of attempts if other writers change the same object or row during each
/// attempt. After that, the caller gets [`AppError::Contended`].
pub(crate) const MAX_TRIES: usize = 8;

/// The result of a use case.
pub type Result<T, E = AppError> = std::result::Result<T, E>;

/// The number of parts that all direct uploads together may have in memory, in addition to one part
/// for each upload. An upload without a permit for a second part does not read while it sends.
const SPARE_PARTS: usize = 4;

/// The settings of direct uploads.
#[derive(Debug)]
pub struct DirectSettings {
    /// Whether direct uploads are accepted.
    pub enabled: bool,
    /// The size of a part in bytes, which is also the memory for each upload. S3 requires at least
    /// 5 MiB.
    pub part_size: usize,
    spare_parts: tokio::sync::Semaphore,
}

impl DirectSettings {
    /// `part_size` in bytes.
    pub fn new(enabled: bool, part_size: usize) -> Self {
        Self { enabled, part_size, spare_parts: tokio::sync::Semaphore::new(SPARE_PARTS) }
    }

    /// The size of a part in bytes, as far as the store accepts parts of that size.
    fn part_size_for(&self, store: &Store) -> usize {
        let largest = usize::try_from(store.capabilities.max_part_size).unwrap_or(usize::MAX);
        self.part_size.min(largest)
    }
}

/// The dependencies of the use cases.
pub struct App {
    /// The database.
    pub db: Db,
    /// The stores by name.
    pub stores: BTreeMap<String, Store>,
    /// The policies by name.
    pub policies: BTreeMap<PolicyName, Policy>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of new ids.
    pub ids: Arc<dyn IdSource>,
    /// The inspectors that run after the verification.
    pub inspectors: Inspectors,
    /// The settings of direct uploads.
    pub direct: DirectSettings,
    /// The order of requests that change the same row.
    pub turns: turns::Turns,
    /// The locations of the policies.
    pub locations: Locations,
    /// Whether each bucket belongs to this database, as the last check found.
    pub buckets: BucketTrust,
    /// The difference between the database's clock and this process's clock.
    pub clock_offset: ClockOffset,
    /// Verifies upload tokens.
    pub token_verifier: UploadTokenVerifier,
    /// The threads that the inspector `media` may use at the same time.
    pub media_threads: tokio::sync::Semaphore,
    /// The limit of damage per hour and policy, for changes outside of reconciliation runs.
    pub damage: DamageLimit,
}

impl App {
    /// The current time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The policy of an upload, and the store of its location.
    ///
    /// # Errors
    /// If one of them is not configured any more ([`AppError::Unconfigured`],
    /// [`AppError::StoreUnconfigured`]), or the database fails.
    pub async fn rules_of(&self, upload: &Upload) -> Result<(&Policy, &Store)> {
        let gone = || AppError::Unconfigured(format!("policies.{}", upload.policy));
        let policy = self.policies.get(&upload.policy).ok_or_else(gone)?;
        let location = self.location_of(upload).await?;
        Ok((policy, self.store_at(&location)?))
    }

    /// The store of a policy's new uploads.
    pub fn store_of(&self, policy: &Policy) -> Result<&Store> {
        let gone = || AppError::Unconfigured(format!("storage.{}", policy.store));
        self.stores.get(&policy.store).ok_or_else(gone)
    }

    /// The bucket of an upload.
    pub async fn bucket_of(&self, upload: &Upload) -> Result<&str> {
        Ok(&self.rules_of(upload).await?.1.bucket)
    }

    /// Whether the store of a new upload accepts forms. If the caller has an upload token, the
    /// token's policy decides which store it is.
    pub fn takes_forms(&self, by: Principal<'_>, policy: Option<&PolicyName>) -> Result<bool> {
        let policy = self.policy(by.token().map(|token| &token.policy).or(policy))?;
        Ok(self.store_of(policy)?.capabilities.post_policy)
    }

    /// Fails if the store of a new upload does not support S3's multipart requests, for clients
    /// that send these requests themselves. If the caller has an upload token, the token's policy
    /// decides which store it is.
    pub fn require_s3_multipart(
        &self,
        by: Principal<'_>,
        policy: Option<&PolicyName>,
    ) -> Result<()> {
        let policy = self.policy(by.token().map(|token| &token.policy).or(policy))?;
        if self.store_of(policy)?.capabilities.s3_multipart {
            return Ok(());
        }
        Err(AppError::field("strategy", create_upload::NO_S3_MULTIPART))
    }

    /// The requested policy, or the default one.
    pub(crate) fn policy(&self, name: Option<&PolicyName>) -> Result<&Policy> {
        let default = PolicyName::default();
        let name = name.unwrap_or(&default);
        self.policies
            .get(name)
            .ok_or_else(|| AppError::field("policy", format!("There is no policy `{name}`")))
    }

    /// The lifetime of a URL: the requested one, or else the policy's. It is an error if the
    /// requested one is above the policy's limit.
    pub(crate) fn url_ttl(policy: &Policy, expires_in: Option<i64>) -> Result<TimeDelta> {
        let Some(seconds) = expires_in else { return Ok(policy.url_ttl) };
        let max = policy.max_url_ttl.num_seconds();
        if (1..=max).contains(&seconds) {
            Ok(TimeDelta::seconds(seconds))
        } else {
            Err(AppError::field("expires_in", format!("Must be from 1 to {max} seconds")))
        }
    }
}
