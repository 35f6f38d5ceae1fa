//! Verifies upload tokens, whatever `auth.mode` is. Lookups are cached: a token that is in use costs
//! one query per [`CACHE_TTL`] and process.

use std::sync::Arc;
use std::time::Duration;

use super::lookup_cache::LookupCache;
use crate::db::{Db, DbError, Result};
use crate::domain::bearer_token::PresentedToken;
use crate::domain::upload_token::{PREFIX, TokenError};
use crate::domain::{Clock, UploadToken, UploadTokenId};

/// How long a lookup is reused. A revocation takes effect everywhere within one second, the time of a
/// query included.
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

    /// Whether a text is meant to be an upload token.
    pub fn recognizes(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The token with this text.
    ///
    /// # Errors
    /// [`TokenError::Unknown`] if it is unknown, revoked, or past the deadlines of its uploads. It
    /// may have expired: then it creates nothing.
    pub async fn identify(&self, text: &str) -> Result<Arc<UploadToken>> {
        let presented = PresentedToken::parse(PREFIX, text).ok_or(TokenError::Unknown)?;
        let token = self.look_up(&presented).await?;
        let now = self.clock.now();
        let token = token.filter(|token| token.accepts(&presented, now));
        Ok(token.ok_or(TokenError::Unknown)?)
    }

    /// Whether pages of this origin may use the token with this text. That holds for revoked and
    /// expired tokens too, so that pages can read the error.
    pub async fn allows_origin(&self, text: &str, origin: &str) -> Result<bool> {
        let Some(presented) = PresentedToken::parse(PREFIX, text) else { return Ok(false) };
        let token = self.look_up(&presented).await?;
        Ok(token.is_some_and(|token| token.is(&presented) && token.allows_origin(origin)))
    }

    /// Looks a token that was changed up again, in this process.
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
