//! Authentication: maps an API key or a JSON Web Token to an owner with scopes. This module also
//! has the request rate limit of each owner, and verifies messages from SNS. Upload tokens are
//! verified separately, in every mode ([`UploadTokenVerifier`]).
//!
//! To add a kind of token, add a file here that verifies it, a field of [`Authenticator`], and a
//! mode in `config::auth`.

use crate::db::DbError;
use crate::domain::{Owner, Scopes, api_key};

mod api_key_verifier;
pub mod api_keys;
mod jwks;
mod jwt;
mod lookup_cache;
pub mod rate_limit;
pub mod sns;
mod upload_token_verifier;
pub mod upload_tokens;

pub use api_key_verifier::ApiKeyVerifier;
pub use jwks::{Jwks, JwksSettings};
pub use jwt::{JwtSettings, JwtVerifier};
pub use upload_token_verifier::UploadTokenVerifier;

/// The longest owner name, in bytes. The name is part of database indexes.
pub const MAX_OWNER_LEN: usize = 255;

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The owner whose data the caller may use.
    pub owner: Owner,
    /// Its scopes.
    pub scopes: Scopes,
}

/// Why a caller is not authenticated.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// The request has no token.
    #[error("a token is required")]
    Missing,
    /// The token is not valid.
    #[error("{0}")]
    Invalid(&'static str),
    /// The token can't be verified now, because the issuer's keys can't be fetched.
    #[error("tokens can't be verified now")]
    Unavailable,
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Authenticates callers.
#[derive(Debug, Default)]
pub struct Authenticator {
    open: bool,
    keys: Option<ApiKeyVerifier>,
    jwt: Option<JwtVerifier>,
}

impl Authenticator {
    /// No authentication: every caller is [`Owner::anonymous`] with all scopes.
    pub fn open() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// Whether authentication is off.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Accepts the kinds of token that have a verifier.
    pub fn new(keys: Option<ApiKeyVerifier>, jwt: Option<JwtVerifier>) -> Self {
        Self { open: false, keys, jwt }
    }

    /// Authenticates the caller that presents this token.
    ///
    /// Every request awaits this. Rare branches are boxed, so that their memory is not
    /// allocated and moved with each request.
    pub async fn identify(&self, token: Option<&str>) -> Result<Identity, Denied> {
        if self.open {
            return Ok(Identity { owner: Owner::anonymous(), scopes: Scopes::all() });
        }
        let token = token.ok_or(Denied::Missing)?;
        if token.starts_with(api_key::PREFIX) {
            let keys = self.keys.as_ref().ok_or(Denied::Invalid("API keys are not accepted"))?;
            return keys.identify(token).await;
        }
        let jwt = self.jwt.as_ref().ok_or(Denied::Invalid("The token is not an API key"))?;
        jwt.identify(token).await
    }
}

/// Validates an owner name: not empty, at most [`MAX_OWNER_LEN`] bytes, no control characters,
/// and without the prefix `system:`, which the service uses itself.
pub fn owner(name: &str) -> Option<Owner> {
    let valid = !name.trim().is_empty()
        && !name.starts_with("system:")
        && name.len() <= MAX_OWNER_LEN
        && !name.chars().any(char::is_control);
    valid.then(|| Owner::named(name))
}
