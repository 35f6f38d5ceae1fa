//! `[auth]` and `[auth.jwt]`: how callers are authenticated.

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::error::ConfigError;
use super::value::{self, Choice, ConfigDuration};

/// The shortest secret of HS256, in bytes. It must be as long as the hash (RFC 7518, 3.2).
const MIN_JWT_SECRET: usize = 32;

/// The largest accepted clock difference, in seconds.
const MAX_LEEWAY: u64 = 600;

/// `[auth]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// How callers are authenticated.
    #[serde(deserialize_with = "value::choice", serialize_with = "value::choice_name")]
    pub mode: AuthMode,
    /// Whether `serve` may listen on a network address without authentication.
    #[serde(deserialize_with = "value::flag")]
    pub allow_anonymous_network: bool,
    /// How long the lookup of a key is cached. A revocation takes effect within this time.
    pub api_key_cache: ConfigDuration,
    /// `[auth.jwt]`.
    pub jwt: JwtConfig,
}

/// How callers are authenticated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// No authentication: every caller may use everything.
    #[default]
    None,
    /// By API keys.
    ApiKey,
    /// By JSON Web Tokens.
    Jwt,
    /// By API keys or by JSON Web Tokens.
    ApiKeyOrJwt,
}

impl AuthMode {
    /// Whether API keys are accepted.
    pub fn accepts_api_keys(self) -> bool {
        matches!(self, Self::ApiKey | Self::ApiKeyOrJwt)
    }

    /// Whether JSON Web Tokens are accepted.
    pub fn accepts_jwts(self) -> bool {
        matches!(self, Self::Jwt | Self::ApiKeyOrJwt)
    }
}

impl Choice for AuthMode {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("none", Self::None),
        ("api_key", Self::ApiKey),
        ("jwt", Self::Jwt),
        ("api_key_or_jwt", Self::ApiKeyOrJwt),
    ];
}

/// `[auth.jwt]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JwtConfig {
    /// The accepted algorithms. A token with another algorithm is refused.
    #[serde(deserialize_with = "value::strings")]
    pub algorithms: Vec<String>,
    /// A URL or a file with the public keys, a JWK set.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub jwks: Option<String>,
    /// The age at which a fetched JWK set is fetched again.
    pub jwks_cache: ConfigDuration,
    /// Whether the set may be fetched over plain `http`.
    #[serde(deserialize_with = "value::flag")]
    pub allow_http: bool,
    /// The secret of HS256.
    #[serde(deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub secret: Option<SecretString>,
    /// The required `iss`; `None` accepts any.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub issuer: Option<String>,
    /// `aud` must contain one of these. If the list is empty, tokens with an `aud` are refused.
    #[serde(deserialize_with = "value::strings")]
    pub audience: Vec<String>,
    /// The accepted clock difference.
    pub leeway: ConfigDuration,
    /// The name of the claim with the owner.
    #[serde(deserialize_with = "value::text")]
    pub owner_claim: String,
    /// The name of the claim with the scopes: a space-separated string or a list.
    #[serde(deserialize_with = "value::text")]
    pub scope_claim: String,
}

/// The supported signature algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// HMAC with SHA-256.
    Hs256,
}

impl JwtAlgorithm {
    const ALL: [(&'static str, Self); 4] = [
        ("RS256", Self::Rs256),
        ("ES256", Self::Es256),
        ("EdDSA", Self::EdDsa),
        ("HS256", Self::Hs256),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, algorithm)| algorithm)
    }
}

/// The location of a JWK set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// Fetched from a URL.
    Url(Url),
    /// Read from a file.
    File(PathBuf),
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            mode: AuthMode::None,
            allow_anonymous_network: false,
            api_key_cache: ConfigDuration::from_secs(10),
            jwt: JwtConfig::default(),
        }
    }
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            algorithms: Vec::new(),
            jwks: None,
            jwks_cache: ConfigDuration::from_secs(600),
            allow_http: false,
            secret: None,
            issuer: None,
            audience: Vec::new(),
            leeway: ConfigDuration::from_secs(30),
            owner_claim: "sub".to_owned(),
            scope_claim: "scope".to_owned(),
        }
    }
}

impl AuthConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.api_key_cache.get().as_secs() > 300 {
            let problem = format!(
                "must be at most \"5min\", because a revoked key is accepted for this time, not \
                 \"{}\"",
                self.api_key_cache
            );
            return Err(ConfigError::new("auth.api_key_cache", problem));
        }
        if self.mode.accepts_jwts() { self.jwt.check() } else { Ok(()) }
    }

    /// Refuses to serve a network without authentication, unless the operator allows it.
    pub fn check_bind(&self, bind: SocketAddr) -> Result<(), ConfigError> {
        if self.mode != AuthMode::None || bind.ip().is_loopback() || self.allow_anonymous_network {
            return Ok(());
        }
        let problem = format!(
            "\"none\" lets every caller do everything, and server.bind {bind} is not a loopback \
            address; set a mode, or auth.allow_anonymous_network = true"
        );
        Err(ConfigError::new("auth.mode", problem))
    }
}

impl JwtConfig {
    /// The accepted algorithms.
    pub fn algorithms(&self) -> Vec<JwtAlgorithm> {
        self.algorithms.iter().filter_map(|name| JwtAlgorithm::named(name)).collect()
    }

    /// The location of the public keys.
    pub fn source(&self) -> Option<JwksSource> {
        let text = self.jwks.as_deref()?;
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Some(JwksSource::Url(url)),
            _ => Some(JwksSource::File(PathBuf::from(text))),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let fail =
            |key: &str, problem: &str| Err(ConfigError::new(format!("auth.jwt.{key}"), problem));
        let algorithms = self.algorithms();
        if algorithms.is_empty() || algorithms.len() != self.algorithms.len() {
            return fail(
                "algorithms",
                "must be a list with one or more of RS256, ES256, EdDSA and HS256",
            );
        }
        let symmetric = algorithms.contains(&JwtAlgorithm::Hs256);
        let asymmetric = algorithms.iter().any(|algorithm| *algorithm != JwtAlgorithm::Hs256);
        if asymmetric && self.jwks.is_none() {
            return fail(
                "jwks",
                "must be set to the URL or the file of the keys of RS256, ES256 or EdDSA",
            );
        }
        if let Some(JwksSource::Url(url)) = self.source()
            && url.scheme() != "https"
            && !(self.allow_http || is_loopback(&url))
        {
            return fail(
                "jwks",
                "must be an https URL, because with plain http an attacker can replace the keys; \
                auth.jwt.allow_http = true allows it",
            );
        }
        let secret = self.secret.as_ref().map_or("", |secret| secret.expose_secret());
        if symmetric && secret.len() < MIN_JWT_SECRET {
            return fail("secret", "must have 32 bytes or more for HS256");
        }
        if self.leeway.get().as_secs() > MAX_LEEWAY {
            let problem = format!("must be at most \"10min\", not \"{}\"", self.leeway);
            return fail("leeway", &problem);
        }
        if self.jwks_cache.get().is_zero() {
            return fail("jwks_cache", "must be a duration above zero");
        }
        if self.owner_claim.is_empty() {
            return fail("owner_claim", "must be the name of a claim");
        }
        if self.scope_claim.is_empty() {
            return fail("scope_claim", "must be the name of a claim");
        }
        Ok(())
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    }
}
