//! Upload tokens: created, listed and revoked by their owner, and what they allow.

use super::create_upload::NewUpload;
use super::idempotency::IdempotencyKey;
use super::{App, AppError, Result};
use crate::auth::upload_tokens::{self, IssueError, IssuedToken, NewUploadToken};
use crate::db::Page;
use crate::db::idempotency::Claim;
use crate::db::upload_tokens::UploadTokenFilter;
use crate::domain::upload_token::TokenError;
use crate::domain::{Owner, PolicyName, Principal, Upload, UploadToken, UploadTokenId};

impl App {
    /// Creates a token, or returns the one that an earlier request with the same key created, with
    /// another secret. A track of `attach_to` must be this owner's.
    pub async fn create_upload_token(
        &self,
        owner: &Owner,
        key: Option<&IdempotencyKey>,
        policy: &PolicyName,
        new: NewUploadToken,
    ) -> Result<IssuedToken> {
        let create = |claim: Option<Claim>| async move {
            let policy = self.policy(Some(policy))?;
            if let Some(subject) = &new.attach_to {
                self.check_subject(owner, subject).await?;
            }
            let sources = (&*self.clock, &*self.ids);
            let issued =
                upload_tokens::create(&self.db, sources, (owner, policy), new, claim.as_ref());
            Ok(issued.await?)
        };
        let load = |id| async move {
            let id = UploadTokenId(id);
            let issued = upload_tokens::reissue(&self.db, owner, id).await?;
            self.token_verifier.forget(id);
            issued.ok_or(AppError::NotFound("upload token"))
        };
        self.idempotent(owner, key, create, load).await
    }

    /// A page of an owner's tokens, newest first.
    pub async fn list_upload_tokens(
        &self,
        owner: &Owner,
        filter: &UploadTokenFilter,
    ) -> Result<Page<UploadToken>> {
        Ok(self.db.upload_tokens().list(Some(owner), filter).await?)
    }

    /// Revokes a token, which is then refused. Its uploads stay.
    pub async fn revoke_upload_token(&self, owner: &Owner, id: UploadTokenId) -> Result<()> {
        let revoked = self.db.upload_tokens().revoke(Some(owner), id, self.now()).await?;
        self.token_verifier.forget(id);
        if revoked {
            return Ok(());
        }
        let token = self.db.upload_tokens().find(id).await?;
        match token.filter(|token| token.owner == *owner) {
            Some(_) => Ok(()),
            None => Err(AppError::NotFound("upload token")),
        }
    }

    /// Changes a new upload according to the caller's token. The token's metadata has priority.
    pub(super) fn restrict(&self, by: Principal<'_>, new: NewUpload) -> Result<NewUpload> {
        let Some(token) = by.token() else { return Ok(new) };
        self.require_unexpired(by)?;
        let NewUpload { policy, attach_to, mut declared, mut metadata, .. } = new;
        declared.max_size = token.max_size;
        metadata.extend(token.metadata.clone());
        Ok(NewUpload {
            policy: Some(token.check_policy(policy.as_ref())?),
            attach_to: token.check_subject(attach_to.as_ref())?,
            declared,
            metadata,
            ..new
        })
    }

    /// Fails if the caller's token has expired, so that it gets no new deadlines.
    pub(super) fn require_unexpired(&self, by: Principal<'_>) -> Result<()> {
        match by.token() {
            Some(token) if token.has_expired(self.now()) => Err(TokenError::Expired.into()),
            _ => Ok(()),
        }
    }
}

/// The upload of a caller. Returns `None` if the caller may not use it.
pub(super) fn within_reach(by: Principal<'_>, upload: Option<Upload>) -> Option<Upload> {
    upload.filter(|upload| by.reaches(upload))
}

impl IdempotencyKey {
    /// The idempotency key with a prefix for the caller: each token has its own keys. A client's
    /// key contains no spaces.
    pub(super) fn of(self, by: Principal<'_>) -> Self {
        match by.token() {
            Some(token) => Self { key: format!("{} {}", token.id, self.key), ..self },
            None => self,
        }
    }
}

impl From<IssueError> for AppError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Invalid(errors) => errors.into(),
            IssueError::Db(error) => error.into(),
        }
    }
}
