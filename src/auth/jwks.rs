//! The public keys of token issuers: a JWK set from a file or a URL, cached.
//!
//! A token whose key is not in the set triggers a fetch, so that key rotation needs no
//! restart. Fetches have a minimum interval: without it, tokens with made-up key ids could
//! make the service send any number of requests to the issuer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::watch;
use url::Url;

use super::Denied;
use crate::net::OutboundClient;
use crate::telemetry::chain;

/// The time limit of a fetch. Requests wait for it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last set is used while no newer one can be fetched.
const MAX_AGE: Duration = Duration::from_hours(24);

/// How a JWK set is cached.
#[derive(Debug, Clone)]
pub struct JwksSettings {
    /// Age at which a set is fetched again.
    pub ttl: Duration,
    /// The minimum time between the starts of two fetches.
    pub min_interval: Duration,
}

/// A cached JWK set.
#[derive(Debug)]
pub struct Jwks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: Source,
    settings: JwksSettings,
    set: RwLock<Arc<KeySet>>,
    fetches: Mutex<Fetches>,
}

#[derive(Debug, Default)]
struct Fetches {
    /// When the last fetch started.
    started: Option<Instant>,
    /// Closes when the fetch in progress ends.
    in_progress: Option<watch::Receiver<()>>,
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
    /// The set at a URL. Private addresses are allowed, because the operator configures the URL.
    pub fn of_url(url: Url, settings: JwksSettings) -> Self {
        Self::new(Source::Url(url, OutboundClient::new(TIMEOUT, true)), settings)
    }

    /// The set in a file.
    pub fn of_file(path: PathBuf, settings: JwksSettings) -> Self {
        Self::new(Source::File(path), settings)
    }

    fn new(source: Source, settings: JwksSettings) -> Self {
        let (set, fetches) = (RwLock::default(), Mutex::default());
        Self(Arc::new(Shared { source, settings, set, fetches }))
    }

    /// The key with this id.
    pub(super) async fn find(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Result<DecodingKey, Denied> {
        let shared = &self.0;
        let set = shared.set();
        let fresh = set.age().is_some_and(|age| age < shared.settings.ttl);
        let known = set.find(algorithm, id);
        if let Some(key) = known
            && fresh
        {
            return Ok(key.clone());
        }
        match shared.refresh(&set) {
            // The key is known: only the caller that started the fetch waits for it.
            Refresh::InProgress(_) if known.is_some() => {}
            Refresh::Started(mut end) | Refresh::InProgress(mut end) => {
                // The channel is closed when the fetch has ended.
                while end.changed().await.is_ok() {}
            }
            Refresh::NotNeeded => {}
        }
        let set = shared.set();
        if set.age().is_none_or(|age| age > MAX_AGE.max(shared.settings.ttl)) {
            return Err(Denied::Unavailable);
        }
        let found = set.find(algorithm, id).cloned();
        found.ok_or(Denied::Invalid("The token is signed with an unknown key"))
    }
}

/// What [`Shared::refresh`] did.
enum Refresh {
    /// There is already a newer set, or the last fetch started too recently.
    NotNeeded,
    /// A fetch was in progress.
    InProgress(watch::Receiver<()>),
    /// A fetch was started.
    Started(watch::Receiver<()>),
}

impl Shared {
    fn set(&self) -> Arc<KeySet> {
        Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts a fetch of a set newer than `seen` if none is in progress and the last one did not
    /// start too recently. The fetch is a task of its own: if the caller disconnects, the fetch
    /// continues, and its start counts for the interval.
    fn refresh(self: &Arc<Self>, seen: &Arc<KeySet>) -> Refresh {
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(seen, &self.set()) {
            return Refresh::NotNeeded;
        }
        if let Some(end) = &fetches.in_progress
            && end.has_changed().is_ok()
        {
            return Refresh::InProgress(end.clone());
        }
        if fetches.started.is_some_and(|at| at.elapsed() < self.settings.min_interval) {
            return Refresh::NotNeeded;
        }
        let now = Instant::now();
        let (ended, end) = watch::channel(());
        *fetches = Fetches { started: Some(now), in_progress: Some(end.clone()) };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            shared.fetch_set(now).await;
            drop(ended);
        });
        Refresh::Started(end)
    }

    async fn fetch_set(&self, now: Instant) {
        match self.fetch().await {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "JWK set fetched");
                let set = KeySet { keys, fetched: Some(now) };
                *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
            }
            Err(why) => tracing::warn!(why, "auth.jwt.jwks: the JWK set was not fetched"),
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, String> {
        let bytes = match &self.source {
            Source::File(path) => {
                let read = tokio::fs::read(path).await;
                read.map_err(|error| format!("{}: {error}", path.display()))?
            }
            Source::Url(url, client) => {
                let response = client.get(url).await.map_err(|error| chain(&error))?;
                if !response.is_success() {
                    return Err(format!("{url} returned HTTP {}", response.status));
                }
                response.body.to_vec()
            }
        };
        read(&bytes)
    }
}

impl KeySet {
    fn age(&self) -> Option<Duration> {
        self.fetched.map(|at| at.elapsed())
    }

    /// The key with this id. A token without a key id matches the only key of its algorithm.
    fn find(&self, algorithm: Algorithm, id: Option<&str>) -> Option<&DecodingKey> {
        let mut matching = self.keys.iter().filter(|key| key.algorithm == algorithm);
        if let Some(id) = id {
            return matching.find(|key| key.id.as_deref() == Some(id)).map(|key| &key.decoding);
        }
        let only = matching.next()?;
        matching.next().is_none().then_some(&only.decoding)
    }
}

/// The keys of a set that verify signatures of a supported algorithm. Other keys are skipped.
fn read(bytes: &[u8]) -> Result<Vec<Key>, String> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set =
        serde_json::from_slice(bytes).map_err(|error| format!("not a JWK set: {error}"))?;
    // Parsed one by one, so that a key of an unknown type does not invalidate the whole set.
    let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let keys: Vec<_> = keys.filter_map(|jwk| usable(&jwk)).collect();
    if keys.is_empty() {
        Err("the JWK set has no key for RS256, ES256 or EdDSA".to_owned())
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
        // Keys of other types. A symmetric key in a JWK set is not secret, so it is not used.
        _ => return None,
    };
    let common = &jwk.common;
    let for_signatures = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    let for_algorithm =
        common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(algorithm));
    if !(for_signatures && for_algorithm) {
        return None;
    }
    Some(Key { id: common.key_id.clone(), algorithm, decoding: DecodingKey::from_jwk(jwk).ok()? })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::mutate::mutated;

    /// A JWK set as an issuer publishes it.
    fn published() -> String {
        let keys = include_str!("../tests/http/keys/public.json");
        let keys: serde_json::Map<_, _> = serde_json::from_str(keys).unwrap();
        json!({"keys": keys.into_values().collect::<Vec<_>>()}).to_string()
    }

    proptest! {
        #[test]
        fn a_damaged_set_is_refused_or_has_keys_of_supported_algorithms_only(bytes in mutated(Just(published()))) {
            let kinds = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
            if let Ok(keys) = read(&bytes) {
                prop_assert!(!keys.is_empty());
                prop_assert!(keys.iter().all(|key| kinds.contains(&key.algorithm)));
            }
        }
    }

    #[test]
    fn only_public_signature_keys_of_supported_algorithms_are_used() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let rsa = |more: serde_json::Value| {
            let mut key = json!({"kty": "RSA", "n": n, "e": "AQAB"});
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key
        };
        let algorithm_of = |key: serde_json::Value| {
            read(json!({"keys": [key]}).to_string().as_bytes()).map(|keys| keys[0].algorithm).ok()
        };
        assert_eq!(algorithm_of(rsa(json!({}))), Some(Algorithm::RS256));
        assert_eq!(
            algorithm_of(rsa(json!({"alg": "RS256", "use": "sig"}))),
            Some(Algorithm::RS256)
        );
        assert_eq!(algorithm_of(rsa(json!({"use": "enc"}))), None);
        assert_eq!(algorithm_of(rsa(json!({"alg": "PS256"}))), None);
        assert_eq!(algorithm_of(json!({"kty": "oct", "k": "AAAA"})), None);
        let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
        let y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
        let ec = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        assert_eq!(algorithm_of(ec), Some(Algorithm::ES256));
        assert_eq!(
            algorithm_of(json!({"kty": "OKP", "crv": "Ed25519", "x": x})),
            Some(Algorithm::EdDSA)
        );
        assert!(read(b"{}").is_err() && read(b"[]").is_err() && read(b"{\"keys\":[{}]}").is_err());
    }

    #[test]
    fn a_token_without_a_key_id_matches_the_only_key_of_its_algorithm() {
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

    /// An issuer that counts connections, and responds to them once `respond` is permitted.
    async fn issuer(respond: Arc<Semaphore>) -> (Url, watch::Receiver<u32>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let (count, counted) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                let respond = Arc::clone(&respond);
                tokio::spawn(async move {
                    drop(respond.acquire().await);
                    let body = published();
                    let response = format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    let mut request = [0; 1024];
                    let _ = socket.read(&mut request).await;
                    let _ = socket.write_all(response.as_bytes()).await;
                });
            }
        });
        (url.parse().unwrap(), counted)
    }

    #[tokio::test]
    async fn callers_that_disconnect_cause_no_further_fetch() {
        let respond = Arc::new(Semaphore::new(0));
        let (url, mut connections) = issuer(Arc::clone(&respond)).await;
        let hour = Duration::from_hours(1);
        let jwks = Jwks::of_url(url, JwksSettings { ttl: hour, min_interval: hour });
        tokio::select! {
            _ = jwks.find(Algorithm::ES256, Some("ec1")) => panic!("the issuer has not responded"),
            connected = connections.changed() => connected.unwrap(),
        }
        for _ in 0..40 {
            assert!(jwks.find(Algorithm::ES256, Some("ec1")).now_or_never().is_none());
        }
        respond.add_permits(1);
        assert!(jwks.find(Algorithm::ES256, Some("ec1")).await.is_ok());
        assert!(jwks.find(Algorithm::ES256, Some("made-up")).await.is_err());
        assert_eq!(*connections.borrow(), 1);
    }
}
