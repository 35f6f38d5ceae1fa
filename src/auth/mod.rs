//! Who calls: an API key or a JSON Web Token becomes an owner with scopes.
//!
//! To add a kind of token: a file here that verifies it, a field of [`Authenticator`], and a
//! mode in `config::auth`.

use crate::db::DbError;
use crate::domain::{Owner, Scopes, api_key};

mod api_key_verifier;
pub mod api_keys;
mod jwks;
mod jwt;
pub mod rate_limit;

pub use api_key_verifier::ApiKeyVerifier;
pub use jwks::{Jwks, JwksSettings};
pub use jwt::{JwtSettings, JwtVerifier};

/// The longest name of an owner, in bytes: it is a part of indexes.
pub const MAX_OWNER_LEN: usize = 255;

/// A caller that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// In whose name.
    pub owner: Owner,
    /// What it may do.
    pub scopes: Scopes,
}

/// Why a caller is not known.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// It showed nothing.
    #[error("a token is needed")]
    Missing,
    /// What it showed opens nothing.
    #[error("{0}")]
    Invalid(&'static str),
    /// Nobody can tell at the moment: the keys to judge by can't be had.
    #[error("tokens can't be checked now")]
    Unavailable,
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Tells callers apart.
#[derive(Debug, Default)]
pub struct Authenticator {
    open: bool,
    keys: Option<ApiKeyVerifier>,
    jwt: Option<JwtVerifier>,
}

impl Authenticator {
    /// Lets everybody do everything, as one and the same owner.
    pub fn open() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// Takes what is given here, and nobody without.
    pub fn new(keys: Option<ApiKeyVerifier>, jwt: Option<JwtVerifier>) -> Self {
        Self { open: false, keys, jwt }
    }

    /// Who shows this token. Every request waits for this: what is seldom needed is boxed on
    /// the way there, so that its room is not allocated and moved with each of them.
    pub async fn identify(&self, token: Option<&str>) -> Result<Identity, Denied> {
        if self.open {
            return Ok(Identity { owner: Owner::anonymous(), scopes: Scopes::all() });
        }
        let token = token.ok_or(Denied::Missing)?;
        if token.starts_with(api_key::PREFIX) {
            let keys = self.keys.as_ref().ok_or(Denied::Invalid("API keys are not taken here"))?;
            return keys.identify(token).await;
        }
        let jwt = self.jwt.as_ref().ok_or(Denied::Invalid("The token is no API key"))?;
        jwt.identify(token).await
    }
}

/// An owner's name that a caller may have: not empty, not endless, no control characters, and
/// none that this service gives itself.
pub fn owner(name: &str) -> Option<Owner> {
    let sound = !name.trim().is_empty()
        && !name.starts_with("system:")
        && name.len() <= MAX_OWNER_LEN
        && !name.chars().any(char::is_control);
    sound.then(|| Owner::named(name))
}
