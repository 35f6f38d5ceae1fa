//! Verifies API keys. Lookups are cached for a few seconds: most requests need no query, and a
//! revocation takes effect within that time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use uuid::Uuid;

use super::{Denied, Identity};
use crate::db::Db;
use crate::domain::api_key::{ApiKey, PREFIX};
use crate::domain::bearer_token::PresentedToken;
use crate::domain::{Clock, Timestamp};

/// The maximum number of cached lookups, including those of keys that do not exist.
const MAX_CACHED: usize = 10_000;

/// The minimum time between two records of a key's last use.
const USE_INTERVAL: TimeDelta = TimeDelta::minutes(1);

const NO_SUCH_KEY: &str = "The API key is unknown, revoked or expired";

/// Looks up keys and caches them.
pub struct ApiKeyVerifier {
    db: Db,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    cache: Mutex<HashMap<Uuid, Cached>>,
}

struct Cached {
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
    /// Verifies keys of this database. Each lookup is cached for `ttl`.
    pub fn new(db: Db, clock: Arc<dyn Clock>, ttl: Duration) -> Self {
        Self { db, clock, ttl, cache: Mutex::default() }
    }

    pub(super) async fn identify(&self, text: &str) -> Result<Identity, Denied> {
        let presented = PresentedToken::parse(PREFIX, text).ok_or(Denied::Invalid(NO_SUCH_KEY))?;
        let key = match self.cached(presented.id) {
            Some(key) => key,
            None => Box::pin(self.look_up(presented.id)).await?,
        };
        let now = self.clock.now();
        // One message for all reasons, so that it does not reveal which keys exist.
        let key = key
            .filter(|key| key.hash.matches(&presented.hash) && key.is_live(now))
            .ok_or(Denied::Invalid(NO_SUCH_KEY))?;
        self.record_use(presented.id, now);
        Ok(Identity { owner: key.owner.clone(), scopes: key.scopes })
    }

    fn map(&self) -> MutexGuard<'_, HashMap<Uuid, Cached>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cached lookup; its inner `None` is a key that does not exist.
    fn cached(&self, id: Uuid) -> Option<Option<Arc<ApiKey>>> {
        let map = self.map();
        let cached = map.get(&id).filter(|cached| Instant::now() < cached.until)?;
        Some(cached.key.clone())
    }

    async fn look_up(&self, id: Uuid) -> Result<Option<Arc<ApiKey>>, Denied> {
        // The time before the query: the row may have changed at any time after it.
        let now = Instant::now();
        let key = self.db.api_keys().find(id).await?.map(Arc::new);
        let mut map = self.map();
        if map.len() >= MAX_CACHED {
            map.retain(|_, cached| now < cached.until);
        }
        if map.len() >= MAX_CACHED {
            // A caller tries many ids. Clearing the cache costs only new lookups.
            map.clear();
        }
        let before = map.get(&id).and_then(|cached| cached.used_at);
        let used_at = before.max(key.as_ref().and_then(|key| key.last_used_at));
        map.insert(id, Cached { key: key.clone(), until: now + self.ttl, used_at });
        Ok(key)
    }

    /// Records a use in a separate task, at most once per [`USE_INTERVAL`].
    fn record_use(&self, id: Uuid, now: Timestamp) {
        let mut map = self.map();
        let Some(cached) = map.get_mut(&id) else { return };
        if cached.used_at.is_some_and(|at| now - at < USE_INTERVAL) {
            return;
        }
        cached.used_at = Some(now);
        drop(map);
        let db = self.db.clone();
        tokio::spawn(async move {
            if let Err(error) = db.api_keys().record_use(id, now).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, key = %id, "the use of an API key was not recorded");
            }
        });
    }
}
