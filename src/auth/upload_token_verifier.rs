//! Verifies upload tokens, in every `auth.mode`. Lookups are cached: a token that is in use costs
//! one query per [`CACHE_TTL`] and process.

use std::sync::Arc;
use std::time::Duration;

use super::lookup_cache::LookupCache;
use crate::db::{Db, DbError, Result};
use crate::domain::bearer_token::PresentedToken;
use crate::domain::upload_token::{PREFIX, TokenError};
use crate::domain::{Clock, UploadToken, UploadTokenId};

/// How long a lookup is reused. A revocation takes effect in every process within one second,
/// including the time of a query.
const CACHE_TTL: Duration = Duration::from_millis(500);

/// Looks up upload tokens and caches them.
pub struct UploadTokenVerifier {
    db: Db,
    clock: Arc<dyn Clock>,
    cache: LookupCache<Arc<UploadToken>>,
}

impl UploadTokenVerifier {
    /// Verifies tokens of this database.
    pub fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock, cache: LookupCache::new(CACHE_TTL) }
    }

    /// Whether a text has the form of an upload token.
    pub fn recognizes(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Returns the token with this text. It may have expired; an expired token creates no uploads.
    ///
    /// # Errors
    ///
    /// [`TokenError::Unknown`] if the token is unknown, revoked, or past the deadlines of its
    /// uploads.
    pub async fn identify(&self, text: &str) -> Result<Arc<UploadToken>> {
        let presented = PresentedToken::parse(PREFIX, text).ok_or(TokenError::Unknown)?;
        let token = self.look_up(&presented).await?;
        let now = self.clock.now();
        let token = token.filter(|token| token.accepts(&presented, now));
        Ok(token.ok_or(TokenError::Unknown)?)
    }

    /// Whether web pages of this origin may use the token. Also returns `true` for revoked and
    /// expired tokens, so that the page can read the error response.
    pub async fn allows_origin(&self, text: &str, origin: &str) -> Result<bool> {
        let Some(presented) = PresentedToken::parse(PREFIX, text) else { return Ok(false) };
        let token = self.look_up(&presented).await?;
        Ok(token.is_some_and(|token| token.is(&presented) && token.allows_origin(origin)))
    }

    /// Removes a token that was changed from the cache of this process.
    pub fn forget(&self, id: UploadTokenId) {
        self.cache.forget(id.0);
    }

    async fn look_up(&self, presented: &PresentedToken) -> Result<Option<Arc<UploadToken>>> {
        let id = UploadTokenId(presented.id);
        let look_up =
            async || Ok::<_, DbError>(self.db.upload_tokens().find(id).await?.map(Arc::new));
        self.cache.get(presented.id, look_up).await
    }
}
