//! JSON Web Tokens over HTTP: every algorithm, and the rotation of keys.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use upload_coordinator::auth::{Authenticator, Jwks, JwksSettings, JwtSettings, JwtVerifier};
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::http::SecurityConfig;

use super::kit::{Response, Server, fetch};

const PUBLIC: &str = include_str!("keys/public.json");

fn public(names: &[&str]) -> Value {
    let all: BTreeMap<String, Value> = serde_json::from_str(PUBLIC).unwrap();
    json!({"keys": names.iter().map(|name| all[*name].clone()).collect::<Vec<_>>()})
}

/// A token that is signed with the test key in the file `name`. `id` is the key id in its header.
fn token(name: &str, id: Option<&str>) -> String {
    let (algorithm, key) = match name {
        "rsa" => (Algorithm::RS256, EncodingKey::from_rsa_pem(include_bytes!("keys/rsa.pem"))),
        "ec1" => (Algorithm::ES256, EncodingKey::from_ec_pem(include_bytes!("keys/ec1.pem"))),
        "ec2" => (Algorithm::ES256, EncodingKey::from_ec_pem(include_bytes!("keys/ec2.pem"))),
        _ => (Algorithm::EdDSA, EncodingKey::from_ed_pem(include_bytes!("keys/ed.pem"))),
    };
    let header = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
    let claims = json!({"exp": get_current_timestamp() + 60, "tenant": "ann",
        "scopes": ["tracks:read", "tracks:write"]});
    encode(&header, &claims, &key.unwrap()).unwrap()
}

/// The web server of an issuer. Its key set can be changed or made unavailable.
struct Issuer {
    url: String,
    set: Arc<Mutex<Option<Value>>>,
    requests: Arc<AtomicUsize>,
}

impl Issuer {
    async fn with(set: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let set = Arc::new(Mutex::new(Some(set)));
        let requests = Arc::new(AtomicUsize::new(0));
        let (shown, count) = (set.clone(), requests.clone());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let _ = socket.read(&mut head).await;
                count.fetch_add(1, Ordering::SeqCst);
                let body = shown.lock().unwrap().as_ref().map(Value::to_string);
                let (status, body) = body.map_or(("500 Broken", String::new()), |b| ("200 OK", b));
                let length = body.len();
                let response = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                let _ = socket.write_all(response.as_bytes()).await;
            }
        });
        Self { url, set, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn show(&self, set: Option<Value>) {
        *self.set.lock().unwrap() = set;
    }

    fn keys(&self, ttl: Duration, min_interval: Duration) -> Jwks {
        Jwks::of_url(self.url.parse().unwrap(), JwksSettings { ttl, min_interval })
    }
}

async fn server(algorithms: &[Algorithm], jwks: Jwks) -> Server {
    let settings = JwtSettings {
        algorithms: algorithms.to_vec(),
        issuer: None,
        audience: Vec::new(),
        leeway: 0,
        owner_claim: "tenant".into(),
        scope_claim: "scopes".into(),
    };
    let verifier = JwtVerifier::new(settings, Some(jwks), None);
    let auth = Arc::new(Authenticator::new(None, Some(verifier)));
    let protect = |_: &_| SecurityConfig { auth, ..SecurityConfig::default() };
    Server::build(Duration::from_secs(20), Quota::default(), protect).await
}

async fn get(server: &Server, token: &str) -> Response {
    fetch(server.request("GET", "/api/tracks").bearer_auth(token)).await
}

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn tokens_of_every_algorithm_are_verified_with_the_keys_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, public(&["rsa", "ec1", "ed"]).to_string()).unwrap();
    let file = || Jwks::of_file(path.clone(), JwksSettings { ttl: HOUR, min_interval: HOUR });
    let all = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    let server = server(&all, file()).await;
    for name in ["rsa", "ec1", "ed"] {
        assert_eq!(get(&server, &token(name, Some(name))).await.status, 200, "{name}");
        assert_eq!(get(&server, &token(name, None)).await.status, 200, "the only one: {name}");
    }
    // A token that is signed with another key than its id says, a token whose key is not in the
    // set, and a token with a changed payload.
    get(&server, &token("ec2", Some("ec1"))).await.is_problem(401, "unauthorized");
    get(&server, &token("ec2", Some("ec2"))).await.is_problem(401, "unauthorized");
    let forged = token("ed", Some("ed")).replacen("eyJleHAi", "eyJleHBi", 1);
    get(&server, &forged).await.is_problem(401, "unauthorized");
    let key = format!("uck_{}_{}", "0".repeat(32), "0".repeat(64));
    get(&server, &key).await.is_problem(401, "unauthorized");
    server.stop().await;
    // Only configured algorithms are accepted, even if the set contains others.
    let server = self::server(&[Algorithm::ES256], file()).await;
    get(&server, &token("rsa", Some("rsa"))).await.is_problem(401, "unauthorized");
    assert_eq!(get(&server, &token("ec1", Some("ec1"))).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_new_key_of_the_issuer_is_fetched_for_its_first_token() {
    let issuer = Issuer::with(public(&["ec1"])).await;
    let server = server(&[Algorithm::ES256], issuer.keys(HOUR, Duration::ZERO)).await;
    for _ in 0..3 {
        assert_eq!(get(&server, &token("ec1", Some("ec1"))).await.status, 200);
    }
    assert_eq!(issuer.requests(), 1, "the set is kept");
    issuer.show(Some(public(&["ec2"])));
    assert_eq!(get(&server, &token("ec2", Some("ec2"))).await.status, 200);
    assert_eq!(issuer.requests(), 2);
    // The old key is not in the new set.
    get(&server, &token("ec1", Some("ec1"))).await.is_problem(401, "unauthorized");
    server.stop().await;
}

#[tokio::test]
async fn unknown_key_ids_do_not_cause_a_fetch_each_time() {
    let issuer = Issuer::with(public(&["ec1"])).await;
    let server = server(&[Algorithm::ES256], issuer.keys(HOUR, HOUR)).await;
    for n in 0..5 {
        let made_up = token("ec2", Some(&format!("made-up-{n}")));
        get(&server, &made_up).await.is_problem(401, "unauthorized");
    }
    assert_eq!(issuer.requests(), 1);
    assert_eq!(get(&server, &token("ec1", Some("ec1"))).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn an_unavailable_issuer_is_503_before_the_first_fetch_and_harmless_after_it() {
    let issuer = Issuer::with(public(&["ec1"])).await;
    issuer.show(None);
    let jwks = issuer.keys(Duration::ZERO, Duration::ZERO);
    let server = server(&[Algorithm::ES256], jwks).await;
    get(&server, &token("ec1", Some("ec1"))).await.is_problem(503, "unavailable");
    issuer.show(Some(public(&["ec1"])));
    assert_eq!(get(&server, &token("ec1", Some("ec1"))).await.status, 200);
    issuer.show(None);
    assert_eq!(get(&server, &token("ec1", Some("ec1"))).await.status, 200, "the last set is used");
    server.stop().await;
}
