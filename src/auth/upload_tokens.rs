//! Creates upload tokens, and replaces their secrets.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use secrecy::SecretString;

use crate::db::idempotency::Claim;
use crate::db::{Db, DbError};
use crate::domain::bearer_token::{self, SECRET_LEN, SecretHash};
use crate::domain::limits::MAX_OBJECT_SIZE;
use crate::domain::metadata::check_metadata;
use crate::domain::origin::is_origin;
use crate::domain::policy::FieldErrors;
use crate::domain::upload_token::{DEFAULT_LIFETIME, MAX_LIFETIME, MAX_ORIGINS, PREFIX};
use crate::domain::{Clock, IdSource, Owner, Policy, Subject, UploadToken, UploadTokenId};

/// The largest accepted limit on the number of uploads.
const MAX_UPLOADS: u64 = 1_000_000_000;

/// The properties of a new token.
#[derive(Debug, Default, Clone)]
pub struct NewUploadToken {
    /// Its lifetime in seconds; one hour by default.
    pub expires_in: Option<i64>,
    /// The number of uploads that it may create.
    pub max_uploads: Option<u64>,
    /// The largest size of a file, in bytes.
    pub max_size: Option<u64>,
    /// The subject that its uploads are attached to.
    pub attach_to: Option<Subject>,
    /// Metadata that is added to each of its uploads.
    pub metadata: BTreeMap<String, String>,
    /// Origins whose web pages may use the token as a path prefix.
    pub cors_origins: Vec<String>,
}

/// A token and its text. The text is not stored.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token.
    pub token: UploadToken,
    /// Its text.
    pub text: SecretString,
}

/// Why a token was not created.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The input is invalid.
    #[error("{0}")]
    Invalid(FieldErrors),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<FieldErrors> for IssueError {
    fn from(errors: FieldErrors) -> Self {
        Self::Invalid(errors)
    }
}

impl NewUploadToken {
    fn check(&self) -> Result<(), FieldErrors> {
        let mut errors = FieldErrors::default();
        let longest = MAX_LIFETIME.num_seconds();
        if !self.expires_in.is_none_or(|seconds| (1..=longest).contains(&seconds)) {
            errors.add("expires_in", format!("Must be from 1 to {longest} seconds"));
        }
        if !self.max_uploads.is_none_or(|uploads| (1..=MAX_UPLOADS).contains(&uploads)) {
            errors.add("max_uploads", format!("Must be from 1 to {MAX_UPLOADS}"));
        }
        if !self.max_size.is_none_or(|size| (1..=MAX_OBJECT_SIZE).contains(&size)) {
            errors.add("max_size", format!("Must be from 1 to {MAX_OBJECT_SIZE} bytes"));
        }
        check_metadata(&self.metadata, &mut errors);
        if self.cors_origins.len() > MAX_ORIGINS {
            errors.add("cors_origins", format!("Must be at most {MAX_ORIGINS} origins"));
        }
        if !self.cors_origins.iter().all(|origin| is_origin(origin)) {
            let sentence = "Must be origins such as https://app.example.com, or \"*\"";
            errors.add("cors_origins", sentence);
        }
        errors.into_result()
    }
}

fn secret(id: UploadTokenId) -> (SecretString, SecretHash) {
    let secret: [u8; SECRET_LEN] = rand::random();
    bearer_token::write(PREFIX, id.0, &secret)
}

/// Creates a token of an owner for a policy. With an idempotency claim, the token gets the id of
/// the claim and completes it.
pub async fn create(
    db: &Db,
    (clock, ids): (&dyn Clock, &dyn IdSource),
    (owner, policy): (&Owner, &Policy),
    new: NewUploadToken,
    claim: Option<&Claim>,
) -> Result<IssuedToken, IssueError> {
    new.check()?;
    let NewUploadToken { expires_in, max_uploads, max_size, attach_to, metadata, cors_origins } =
        new;
    let id = UploadTokenId(claim.map_or_else(|| ids.uuid(), |claim| claim.resource));
    let (text, hash) = secret(id);
    let now = clock.now();
    let expires_at = now + expires_in.map_or(DEFAULT_LIFETIME, TimeDelta::seconds);
    let token = UploadToken {
        id,
        hash,
        owner: owner.clone(),
        policy: policy.name.clone(),
        max_uploads,
        uploads: 0,
        max_size,
        attach_to,
        metadata,
        cors_origins,
        created_at: now,
        expires_at,
        ends_at: expires_at + policy.max_url_ttl + policy.grace,
        revoked_at: None,
    };
    if !db.upload_tokens().create(&token, claim).await? {
        return Err(DbError::Busy.into());
    }
    Ok(IssuedToken { token, text })
}

/// Replaces the secret of a token, because the first response may not have reached the caller and
/// the secret is not stored. Returns `None` if the owner has no such token, or if it is revoked.
pub async fn reissue(
    db: &Db,
    owner: &Owner,
    id: UploadTokenId,
) -> Result<Option<IssuedToken>, DbError> {
    let (text, hash) = secret(id);
    if !db.upload_tokens().replace_secret(owner, id, hash).await? {
        return Ok(None);
    }
    let token = db.upload_tokens().find(id).await?;
    Ok(token.map(|token| IssuedToken { token, text }))
}
