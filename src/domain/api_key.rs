//! API keys: `uck_<id>_<secret>`, see [`bearer_token`](super::bearer_token).

use uuid::Uuid;

use super::bearer_token::SecretHash;
use super::clock::Timestamp;
use super::ids::Owner;
use super::scope::Scopes;

/// The prefix of every key, so that scanners for leaked secrets can find it.
pub const PREFIX: &str = "uck_";

/// The longest name of a key, in characters.
pub const MAX_NAME_CHARS: usize = 100;

/// A stored key.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// Its id, which is part of its text.
    pub id: Uuid,
    /// Its secret's hash.
    pub hash: SecretHash,
    /// A description.
    pub name: String,
    /// The owner that the key acts for.
    pub owner: Owner,
    /// Its scopes.
    pub scopes: Scopes,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, with a precision of about a minute.
    pub last_used_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether it is accepted at this time: not revoked and not expired.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|ends| now < ends)
    }
}
