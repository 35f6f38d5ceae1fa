//! The public keys of who issues tokens: a JWK set of a file or a URL, kept for a while.
//!
//! A token of a key that is not in the set has it fetched again, so that rotation needs no
//! restart; but not more often than every few seconds, or anybody could have the issuer
//! asked by made-up tokens.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use url::Url;

use super::Denied;
use crate::net::OutboundClient;
use crate::telemetry::chain;

/// How long a fetch may take: a request waits for it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last set is used when no newer one can be had.
const MAX_AGE: Duration = Duration::from_hours(24);

/// Where the set is, and how it is kept.
#[derive(Debug, Clone)]
pub struct JwksSettings {
    /// How long a set is used before it is fetched again.
    pub ttl: Duration,
    /// How long after a fetch no other is made, whatever comes.
    pub pause: Duration,
}

/// A key set that is kept fresh.
#[derive(Debug)]
pub struct Jwks {
    source: Source,
    settings: JwksSettings,
    set: RwLock<Arc<KeySet>>,
    /// When it was last tried; who holds it fetches.
    fetching: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug)]
enum Source {
    Url(Url, OutboundClient),
    File(PathBuf),
}

#[derive(Debug, Default)]
struct KeySet {
    keys: Vec<Key>,
    fetched: Option<Instant>,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    decoding: DecodingKey,
}

impl Jwks {
    /// The set at a URL.
    pub fn of_url(url: Url, settings: JwksSettings) -> Self {
        // The operator names the address, so a private one is what is meant.
        Self::new(Source::Url(url, OutboundClient::new(TIMEOUT, true)), settings)
    }

    /// The set in a file.
    pub fn of_file(path: PathBuf, settings: JwksSettings) -> Self {
        Self::new(Source::File(path), settings)
    }

    fn new(source: Source, settings: JwksSettings) -> Self {
        Self { source, settings, set: RwLock::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// The key that a token names.
    pub(super) async fn find(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Result<DecodingKey, Denied> {
        let set = self.set();
        let fresh = set.age().is_some_and(|age| age < self.settings.ttl);
        match set.find(algorithm, id) {
            Some(key) if fresh => return Ok(key.clone()),
            // Old, but there: one caller fetches, the others need not wait for it.
            Some(_) => {
                if let Ok(mut tried) = self.fetching.try_lock() {
                    self.refresh(&set, &mut tried).await;
                }
            }
            None => {
                let mut tried = self.fetching.lock().await;
                self.refresh(&set, &mut tried).await;
            }
        }
        let set = self.set();
        if set.age().is_none_or(|age| age > MAX_AGE.max(self.settings.ttl)) {
            return Err(Denied::Unavailable);
        }
        let found = set.find(algorithm, id).cloned();
        found.ok_or(Denied::Invalid("The token is signed by a key that is not known"))
    }

    fn set(&self) -> Arc<KeySet> {
        Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fetches, unless another did since `seen`, or it was tried just now.
    async fn refresh(&self, seen: &Arc<KeySet>, tried: &mut Option<Instant>) {
        let another = !Arc::ptr_eq(seen, &self.set());
        if another || tried.is_some_and(|at| at.elapsed() < self.settings.pause) {
            return;
        }
        let now = Instant::now();
        // Noted only with an outcome: a caller that hangs up meanwhile holds off nobody else.
        let fetched = Box::pin(self.fetch()).await;
        *tried = Some(now);
        match fetched {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "keys of tokens fetched");
                let set = KeySet { keys, fetched: Some(now) };
                *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
            }
            Err(why) => tracing::warn!(why, "auth.jwt.jwks: keys of tokens not fetched"),
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, String> {
        let bytes = match &self.source {
            Source::File(path) => {
                let read = tokio::fs::read(path).await;
                read.map_err(|error| format!("{}: {error}", path.display()))?
            }
            Source::Url(url, client) => {
                let answer = client.get(url).await.map_err(|error| chain(&error))?;
                if !answer.is_success() {
                    return Err(format!("answered with {}", answer.status));
                }
                answer.body.to_vec()
            }
        };
        read(&bytes)
    }
}

impl KeySet {
    fn age(&self) -> Option<Duration> {
        self.fetched.map(|at| at.elapsed())
    }

    /// By its id; a token without one is for the only key of its kind.
    fn find(&self, algorithm: Algorithm, id: Option<&str>) -> Option<&DecodingKey> {
        let mut fit = self.keys.iter().filter(|key| key.algorithm == algorithm);
        if let Some(id) = id {
            return fit.find(|key| key.id.as_deref() == Some(id)).map(|key| &key.decoding);
        }
        let only = fit.next()?;
        fit.next().is_none().then_some(&only.decoding)
    }
}

/// The keys of a set that can sign here; others are for other uses.
fn read(bytes: &[u8]) -> Result<Vec<Key>, String> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(bytes).map_err(|error| format!("no JWK set: {error}"))?;
    // One by one: a key of a kind that is not known yet must not hide the others.
    let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let keys: Vec<_> = keys.filter_map(|jwk| usable(&jwk)).collect();
    if keys.is_empty() {
        Err("no key in it is for RS256, ES256 or EdDSA".to_owned())
    } else {
        Ok(keys)
    }
}

fn usable(jwk: &Jwk) -> Option<Key> {
    use jsonwebtoken::jwk::KeyAlgorithm;
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(ed) if ed.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        // A symmetric key in a public set would be everybody's.
        _ => return None,
    };
    let common = &jwk.common;
    let signs = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    let meant = common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(algorithm));
    if !(signs && meant) {
        return None;
    }
    Some(Key { id: common.key_id.clone(), algorithm, decoding: DecodingKey::from_jwk(jwk).ok()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::mutate::mutated;

    /// What an issuer publishes.
    fn published() -> String {
        let keys = include_str!("../tests/http/keys/public.json");
        let keys: serde_json::Map<_, _> = serde_json::from_str(keys).unwrap();
        json!({"keys": keys.into_values().collect::<Vec<_>>()}).to_string()
    }

    proptest! {
        #[test]
        fn a_spoiled_set_is_refused_or_has_keys_of_known_kinds_only(bytes in mutated(Just(published()))) {
            let kinds = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
            if let Ok(keys) = read(&bytes) {
                prop_assert!(!keys.is_empty());
                prop_assert!(keys.iter().all(|key| kinds.contains(&key.algorithm)));
            }
        }
    }

    #[test]
    fn only_public_keys_that_sign_by_a_known_algorithm_are_taken() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let rsa = |more: serde_json::Value| {
            let mut key = json!({"kty": "RSA", "n": n, "e": "AQAB"});
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key
        };
        let taken = |key: serde_json::Value| {
            read(json!({"keys": [key]}).to_string().as_bytes()).map(|keys| keys[0].algorithm).ok()
        };
        assert_eq!(taken(rsa(json!({}))), Some(Algorithm::RS256));
        assert_eq!(taken(rsa(json!({"alg": "RS256", "use": "sig"}))), Some(Algorithm::RS256));
        assert_eq!(taken(rsa(json!({"use": "enc"}))), None);
        assert_eq!(taken(rsa(json!({"alg": "PS256"}))), None);
        assert_eq!(taken(json!({"kty": "oct", "k": "AAAA"})), None);
        let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
        let y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
        let ec = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        assert_eq!(taken(ec), Some(Algorithm::ES256));
        assert_eq!(taken(json!({"kty": "OKP", "crv": "Ed25519", "x": x})), Some(Algorithm::EdDSA));
        assert!(read(b"{}").is_err() && read(b"[]").is_err() && read(b"{\"keys\":[{}]}").is_err());
    }

    #[test]
    fn a_token_without_a_key_id_is_for_the_only_key_of_its_kind() {
        let key = |id: &str| Key {
            id: Some(id.to_owned()),
            algorithm: Algorithm::ES256,
            decoding: DecodingKey::from_secret(b"x"),
        };
        let one = KeySet { keys: vec![key("a")], fetched: None };
        assert!(one.find(Algorithm::ES256, None).is_some());
        assert!(one.find(Algorithm::ES256, Some("b")).is_none());
        assert!(one.find(Algorithm::RS256, None).is_none());
        let two = KeySet { keys: vec![key("a"), key("b")], fetched: None };
        assert!(two.find(Algorithm::ES256, None).is_none());
        assert!(two.find(Algorithm::ES256, Some("b")).is_some());
    }
}
