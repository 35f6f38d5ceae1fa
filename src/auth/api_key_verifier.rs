//! API keys, with what was looked up kept for a few seconds: a request costs no query, and a
//! revocation is seen within that time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use uuid::Uuid;

use super::{Denied, Identity};
use crate::db::Db;
use crate::domain::api_key::{ApiKey, ShownKey};
use crate::domain::{Clock, Timestamp};

/// Answers kept at most, those for keys that don't exist among them.
const MAX_KEPT: usize = 10_000;

/// A use is noted this often.
const USE_STEP: TimeDelta = TimeDelta::minutes(1);

const NO_SUCH_KEY: &str = "The API key is unknown, revoked or expired";

/// Looks keys up and remembers them.
pub struct ApiKeyVerifier {
    db: Db,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    kept: Mutex<HashMap<Uuid, Kept>>,
}

struct Kept {
    key: Option<Arc<ApiKey>>,
    until: Instant,
    used_at: Option<Timestamp>,
}

impl std::fmt::Debug for ApiKeyVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeyVerifier").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

impl ApiKeyVerifier {
    /// Keys of this database, each believed for `ttl` once it was looked up.
    pub fn new(db: Db, clock: Arc<dyn Clock>, ttl: Duration) -> Self {
        Self { db, clock, ttl, kept: Mutex::default() }
    }

    pub(super) async fn identify(&self, text: &str) -> Result<Identity, Denied> {
        let shown = ShownKey::parse(text).ok_or(Denied::Invalid(NO_SUCH_KEY))?;
        let kept = self.kept(shown.id);
        let key = match kept {
            Some(key) => key,
            None => Box::pin(self.look_up(shown.id)).await?,
        };
        let now = self.clock.now();
        // One sentence for all that may be wrong: it tells nobody which keys exist.
        let key = key
            .filter(|key| key.hash.matches(&shown.hash) && key.is_live(now))
            .ok_or(Denied::Invalid(NO_SUCH_KEY))?;
        self.note_use(shown.id, now);
        Ok(Identity { owner: key.owner.clone(), scopes: key.scopes })
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, id: Uuid) -> Option<Option<Arc<ApiKey>>> {
        let map = self.map();
        let kept = map.get(&id).filter(|kept| Instant::now() < kept.until)?;
        Some(kept.key.clone())
    }

    async fn look_up(&self, id: Uuid) -> Result<Option<Arc<ApiKey>>, Denied> {
        // From before the query: what it finds is as old as that.
        let now = Instant::now();
        let key = self.db.api_key(id).await?.map(Arc::new);
        let mut map = self.map();
        if map.len() >= MAX_KEPT {
            map.retain(|_, kept| now < kept.until);
        }
        if map.len() >= MAX_KEPT {
            // Somebody tries ids; the others are looked up again.
            map.clear();
        }
        let before = map.get(&id).and_then(|kept| kept.used_at);
        let used_at = before.max(key.as_ref().and_then(|key| key.last_used_at));
        map.insert(id, Kept { key: key.clone(), until: now + self.ttl, used_at });
        Ok(key)
    }

    /// Has a use written down by a task of its own, where the last one was a minute ago.
    fn note_use(&self, id: Uuid, now: Timestamp) {
        let mut map = self.map();
        let Some(kept) = map.get_mut(&id) else { return };
        if kept.used_at.is_some_and(|at| now - at < USE_STEP) {
            return;
        }
        kept.used_at = Some(now);
        drop(map);
        let db = self.db.clone();
        tokio::spawn(async move {
            if let Err(error) = db.touch_api_key(id, now).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, key = %id, "the use of an API key was not noted");
            }
        });
    }
}
