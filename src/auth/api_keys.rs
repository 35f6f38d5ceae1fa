//! Making, listing and taking back API keys.

use chrono::TimeDelta;
use secrecy::SecretString;
use uuid::Uuid;

use crate::db::{Db, Result};
use crate::domain::api_key::{self, ApiKey, SECRET_LEN};
use crate::domain::{Clock, IdSource, Owner, Scopes};

/// What a new key is to be.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// For people.
    pub name: String,
    /// In whose name it calls.
    pub owner: Owner,
    /// What it may do.
    pub scopes: Scopes,
    /// How long it lives; `None` is until it is revoked.
    pub lives: Option<TimeDelta>,
}

/// Makes a key: its row, and its text, which is nowhere else.
pub async fn create(
    db: &Db,
    clock: &dyn Clock,
    ids: &dyn IdSource,
    new: NewApiKey,
) -> Result<(ApiKey, SecretString)> {
    let NewApiKey { name, owner, scopes, lives } = new;
    let id = ids.uuid();
    let secret: [u8; SECRET_LEN] = rand::random();
    let (text, hash) = api_key::write(id, &secret);
    let now = clock.now();
    let key = ApiKey {
        id,
        hash,
        name,
        owner,
        scopes,
        created_at: now,
        expires_at: lives.map(|lives| now + lives),
        revoked_at: None,
        last_used_at: None,
    };
    db.add_api_key(&key).await?;
    Ok((key, text))
}

/// All keys, of one owner or of everybody.
pub async fn list(db: &Db, owner: Option<&Owner>) -> Result<Vec<ApiKey>> {
    let mut keys: Vec<ApiKey> = Vec::new();
    loop {
        let page = db.list_api_keys(owner, keys.last().map(|key| key.id)).await?;
        if page.is_empty() {
            return Ok(keys);
        }
        keys.extend(page);
    }
}

/// Takes a key back; `false` where there is none that could be.
pub async fn revoke(db: &Db, clock: &dyn Clock, id: Uuid) -> Result<bool> {
    db.revoke_api_key(id, clock.now()).await
}
