//! The use cases, one a file: load → transition → effect → save.
//!
//! Handlers, jobs and the reconciler call these and decide nothing themselves. To add
//! one: a file here with an `impl App`, named after what it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::TimeDelta;

use crate::db::{Db, DbError};
use crate::domain::parts::PartsMismatch;
use crate::domain::policy::FieldErrors;
use crate::domain::transition::TransitionError;
use crate::domain::{Clock, IdSource, Policy, PolicyName, Timestamp, Upload};
use crate::storage::signer::SignError;
use crate::storage::{Store, StoreError};

pub mod aborts;
pub mod changes;
pub mod create_upload;
pub mod deliveries;
pub mod direct_upload;
pub mod download;
pub mod events;
pub mod idempotency;
pub mod list_uploads;
pub mod multipart;
pub mod observe;
pub mod readiness;
pub mod retention;
pub mod runs;
pub mod stats;
pub mod tracks;
pub mod transitions;
pub mod turns;
pub mod uploads;
pub mod webhooks;

/// Why a use case failed.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// There is no such thing, or not for this owner.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// What the client sent breaks a rule.
    #[error("{0}")]
    Invalid(FieldErrors),
    /// The media type of the body is none that the policy takes.
    #[error("{0}")]
    MediaType(String),
    /// The object is not in the store yet.
    #[error("the object is not in the store yet")]
    NotArrived,
    /// The parts in the store are not the whole file.
    #[error(transparent)]
    Parts(#[from] PartsMismatch),
    /// The store aborted the multipart upload, or it was completed before.
    #[error("the store holds no parts of it any more; presign it and send them again")]
    PartsGone,
    /// The file is still on its way.
    #[error("the file has not arrived yet")]
    FilePending,
    /// The state refuses it.
    #[error(transparent)]
    State(#[from] TransitionError),
    /// The idempotency key came with another request before.
    #[error("the Idempotency-Key was used for another request")]
    KeyMismatch,
    /// The first request with the idempotency key is at work.
    #[error("the first request with this Idempotency-Key has not ended")]
    KeyInFlight,
    /// As many wait as may.
    #[error("too many are waiting already")]
    TooManyWaiters,
    /// As many of one owner wait as may.
    #[error("at most {0} of one owner wait at once")]
    ShareOfWaiters(usize),
    /// Others changed the same thing again and again.
    #[error("it was changed by others at the same time; try again")]
    Contended,
    /// The upload was ended while its bytes were coming.
    #[error("the upload was ended while its bytes were coming")]
    Ended,
    /// The request's body broke off or is no form.
    #[error("{0}")]
    Body(String),
    /// This installation does not do that.
    #[error("{0}")]
    Disabled(&'static str),
    /// The row names a policy or a store that is not configured any more.
    #[error("`{0}` is not configured any more")]
    Unconfigured(String),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing could be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl AppError {
    /// One sentence about one field.
    pub fn field(field: &str, sentence: impl Into<String>) -> Self {
        Self::Invalid(FieldErrors::one(field, sentence))
    }
}

impl From<FieldErrors> for AppError {
    fn from(errors: FieldErrors) -> Self {
        Self::Invalid(errors)
    }
}

/// How often an optimistic read is tried before the caller gets [`AppError::Contended`].
pub(crate) const MAX_TRIES: usize = 8;

/// A result of a use case.
pub type Result<T, E = AppError> = std::result::Result<T, E>;

/// How many parts all direct uploads together hold in memory besides one part each. An upload
/// without a permit for a second part reads and sends in turns.
const SPARE_PARTS: usize = 4;

/// How the direct-upload fallback works.
#[derive(Debug)]
pub struct DirectSettings {
    /// Whether there is one.
    pub enabled: bool,
    /// What is held in memory of each upload, in bytes; S3 takes parts from 5 MiB.
    pub part_size: usize,
    spare_parts: tokio::sync::Semaphore,
}

impl DirectSettings {
    /// `part_size` in bytes.
    pub fn new(enabled: bool, part_size: usize) -> Self {
        Self { enabled, part_size, spare_parts: tokio::sync::Semaphore::new(SPARE_PARTS) }
    }
}

/// All that the use cases need.
pub struct App {
    /// The rows.
    pub db: Db,
    /// The buckets, by name.
    pub stores: BTreeMap<String, Store>,
    /// The rules, by name.
    pub policies: BTreeMap<PolicyName, Policy>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn IdSource>,
    /// The fallback.
    pub direct: DirectSettings,
    /// The order of requests that change the same row.
    pub turns: turns::Turns,
}

impl App {
    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The rules that an upload is under, and its store.
    pub fn rules_of(&self, upload: &Upload) -> Result<(&Policy, &Store)> {
        let gone = || AppError::Unconfigured(format!("policies.{}", upload.policy));
        let policy = self.policies.get(&upload.policy).ok_or_else(gone)?;
        Ok((policy, self.store_of(policy)?))
    }

    /// A policy's store.
    pub fn store_of(&self, policy: &Policy) -> Result<&Store> {
        let gone = || AppError::Unconfigured(format!("storage.{}", policy.store));
        self.stores.get(&policy.store).ok_or_else(gone)
    }

    /// The policy that a client asks for, or the default one.
    pub(crate) fn policy(&self, name: Option<&PolicyName>) -> Result<&Policy> {
        let default = PolicyName::default();
        let name = name.unwrap_or(&default);
        self.policies
            .get(name)
            .ok_or_else(|| AppError::field("policy", format!("There is no policy `{name}`")))
    }

    /// How long a URL is to live: what is asked, within the policy.
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
