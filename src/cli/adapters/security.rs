//! Builds authentication, limits and TLS of the HTTP server.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use jsonwebtoken::Algorithm;
use secrecy::ExposeSecret as _;

use crate::app::App;
use crate::auth::rate_limit::RateLimit;
use crate::auth::sns::Sns;
use crate::auth::{ApiKeyVerifier, Authenticator, Jwks, JwksSettings, JwtSettings, JwtVerifier};
use crate::config::{
    AuthConfig, AuthMode, Config, DialectsConfig, EventsConfig, JwksSource, JwtAlgorithm,
    JwtConfig, LimitsConfig,
};
use crate::domain::{ConcurrencyLimit, PolicyName};
use crate::http::dialects::{Dialect, family};
use crate::http::family::ApiFamily;
use crate::http::{EventAuth, SecurityConfig};

/// The minimum time between two fetches of a JWK set. Without it, each token with a made-up key id
/// would cause a request to the issuer.
const JWKS_MIN_INTERVAL: Duration = Duration::from_secs(10);

/// Builds the authentication, limits and headers that apply to all routes.
pub async fn security_config(config: &Config, app: &App) -> anyhow::Result<SecurityConfig> {
    let LimitsConfig { direct_uploads, direct_uploads_per_owner, .. } = config.limits;
    let limit = if direct_uploads == 0 { usize::MAX } else { direct_uploads };
    let share = config.share(direct_uploads_per_owner);
    Ok(SecurityConfig {
        event_auth: event_auth(&config.events),
        auth: Arc::new(authenticator(&config.auth, app)),
        rate_limit: rate_limit(&config.limits),
        direct_uploads: Arc::new(ConcurrencyLimit::new(limit, share)),
        cursor_key: app.db.cursor_key().await?,
        cors_origins: config.server.cors_origins.clone(),
        public_url: config.server.public_url(),
        dialects: dialects(&config.dialects),
        tls: super::tls::server_config(&config.server.tls)?,
    })
}

fn event_auth(events: &EventsConfig) -> EventAuth {
    let auth = EventAuth::new(events.token.clone());
    if events.token.is_none() {
        return auth;
    }
    auth.with_sns(Sns::new(events.sns.topics.clone()))
}

fn dialects(config: &DialectsConfig) -> Vec<Arc<dyn ApiFamily>> {
    let enabled = config.all().into_iter().filter(|(_, dialect)| dialect.enabled == Some(true));
    let families = enabled.filter_map(|(name, dialect)| {
        let settings = Dialect {
            policy: PolicyName::new(&dialect.policy),
            url_ttl: TimeDelta::from_std(dialect.url_ttl.get()).unwrap_or(TimeDelta::MAX),
            write_once: dialect.write_once,
        };
        family(name, settings)
    });
    families.collect()
}

fn rate_limit(limits: &LimitsConfig) -> Option<RateLimit> {
    let per_second = NonZeroU32::new(limits.requests_per_second)?;
    let burst = NonZeroU32::new(limits.burst).unwrap_or(per_second);
    Some(RateLimit::new(per_second, burst))
}

fn authenticator(auth: &AuthConfig, app: &App) -> Authenticator {
    if auth.mode == AuthMode::None {
        return Authenticator::open();
    }
    let ttl = auth.api_key_cache.get();
    let keys = || ApiKeyVerifier::new(app.db.clone(), Arc::clone(&app.clock), ttl);
    Authenticator::new(
        auth.mode.accepts_api_keys().then(keys),
        auth.mode.accepts_jwts().then(|| verifier(&auth.jwt)),
    )
}

fn verifier(jwt: &JwtConfig) -> JwtVerifier {
    let algorithms = jwt.algorithms().into_iter().map(|algorithm| match algorithm {
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
        JwtAlgorithm::Hs256 => Algorithm::HS256,
    });
    let settings = JwtSettings {
        algorithms: algorithms.collect(),
        issuer: jwt.issuer.clone(),
        audience: jwt.audience.clone(),
        leeway: jwt.leeway.get().as_secs(),
        owner_claim: jwt.owner_claim.clone(),
        scope_claim: jwt.scope_claim.clone(),
    };
    let cache = JwksSettings { ttl: jwt.jwks_cache.get(), min_interval: JWKS_MIN_INTERVAL };
    let jwks = jwt.source().map(|source| match source {
        JwksSource::Url(url) => Jwks::of_url(url, cache),
        JwksSource::File(path) => Jwks::of_file(path, cache),
    });
    let secret = jwt.secret.as_ref().map(|secret| secret.expose_secret().as_bytes());
    JwtVerifier::new(settings, jwks, secret)
}
