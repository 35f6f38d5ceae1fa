//! Creates, lists and revokes API keys.

use chrono::TimeDelta;
use secrecy::SecretString;
use uuid::Uuid;

use crate::db::{Db, Result};
use crate::domain::api_key::{ApiKey, PREFIX};
use crate::domain::bearer_token::{self, SECRET_LEN};
use crate::domain::{Clock, IdSource, Owner, Scopes};

/// The properties of a new key.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// A description.
    pub name: String,
    /// The owner of the key. Requests with the key act for this owner.
    pub owner: Owner,
    /// Its scopes.
    pub scopes: Scopes,
    /// Its lifetime; `None` means until it is revoked.
    pub expires_in: Option<TimeDelta>,
}

/// Creates a key. Returns its row and its text. The text is not stored.
pub async fn create(
    db: &Db,
    clock: &dyn Clock,
    ids: &dyn IdSource,
    new: NewApiKey,
) -> Result<(ApiKey, SecretString)> {
    let NewApiKey { name, owner, scopes, expires_in } = new;
    let id = ids.uuid();
    let secret: [u8; SECRET_LEN] = rand::random();
    let (text, hash) = bearer_token::write(PREFIX, id, &secret);
    let now = clock.now();
    let key = ApiKey {
        id,
        hash,
        name,
        owner,
        scopes,
        created_at: now,
        expires_at: expires_in.map(|lifetime| now + lifetime),
        revoked_at: None,
        last_used_at: None,
    };
    db.api_keys().create(&key).await?;
    Ok((key, text))
}

/// All keys, or the keys of one owner.
pub async fn list(db: &Db, owner: Option<&Owner>) -> Result<Vec<ApiKey>> {
    let mut keys: Vec<ApiKey> = Vec::new();
    loop {
        let page = db.api_keys().list(owner, keys.last().map(|key| key.id)).await?;
        if page.is_empty() {
            return Ok(keys);
        }
        keys.extend(page);
    }
}

/// Revokes a key. Returns `false` if there is no such key or it is already revoked.
pub async fn revoke(db: &Db, clock: &dyn Clock, id: Uuid) -> Result<bool> {
    db.api_keys().revoke(id, clock.now()).await
}
