//! Caches lookups of tokens by id for a short time, including lookups of ids that do not exist.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// The largest number of cached lookups.
const MAX_CACHED: usize = 10_000;

/// Results of lookups by id; `None` is an id that does not exist.
pub(super) struct LookupCache<T> {
    ttl: Duration,
    lookups: Mutex<HashMap<Uuid, Lookup<T>>>,
}

struct Lookup<T> {
    found: Option<T>,
    until: Instant,
}

impl<T: Clone> LookupCache<T> {
    /// Each lookup is reused for `ttl`, counted from its start.
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, lookups: Mutex::default() }
    }

    /// Returns the cached result, or calls `look_up`.
    pub(super) async fn get<E>(
        &self,
        id: Uuid,
        look_up: impl AsyncFnOnce() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        // The time before the query: the row may have changed at any time after it.
        let now = Instant::now();
        if let Some(lookup) = self.map().get(&id).filter(|lookup| now < lookup.until) {
            return Ok(lookup.found.clone());
        }
        let found = look_up().await?;
        let mut map = self.map();
        if map.len() >= MAX_CACHED {
            map.retain(|_, lookup| now < lookup.until);
        }
        if map.len() >= MAX_CACHED {
            // A caller tries many ids. Clearing the cache costs only new lookups.
            map.clear();
        }
        map.insert(id, Lookup { found: found.clone(), until: now + self.ttl });
        Ok(found)
    }

    /// Drops the result of an id that was changed.
    pub(super) fn forget(&self, id: Uuid) {
        self.map().remove(&id);
    }

    fn map(&self) -> MutexGuard<'_, HashMap<Uuid, Lookup<T>>> {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
