//! Upload tokens over HTTP: an owner creates and revokes them, clients use them in headers and as a
//! path prefix, and pages of other origins use them.

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use upload_coordinator::auth::rate_limit::RateLimit;
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::domain::{Scope, Scopes};
use upload_coordinator::http::SecurityConfig;

use super::kit::{Response, Server, fetch};
use crate::support::mp3;

const PATH: &str = "/api/upload-tokens";
const PAGE: &str = "https://app.example.com";

/// Creates a token with this request body, and returns the token and its id. On a server without
/// authentication, the owner is `anonymous`.
async fn issue(server: &Server, body: Value) -> (String, String) {
    let made = server.send("POST", PATH, body).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("cache-control"), "no-store");
    let made = made.json();
    crate::support::log::secret(made["token"].as_str().unwrap());
    (made["token"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned())
}

fn bearer(request: RequestBuilder, token: &str) -> RequestBuilder {
    request.header("authorization", format!("Bearer {token}"))
}

async fn create(server: &Server, token: &str, body: Value) -> Response {
    fetch(bearer(server.request("POST", "/api/uploads"), token).json(&body)).await
}

#[tokio::test]
async fn an_owner_creates_lists_and_revokes_tokens() {
    let server = Server::keyed().await;
    let ann = server.key("ann", Scopes::all()).await;
    let send = async |method: &str, path: &str, body: Option<Value>| {
        let request = server.request(method, path).header("authorization", &ann);
        fetch(body.iter().fold(request, RequestBuilder::json)).await
    };
    let mut ids = Vec::new();
    for n in 1..=3 {
        let body = json!({"policy": "tracks", "max_uploads": n, "attach_to": "album:1:cover",
            "max_size": 5000, "metadata": {"form": "42"}, "cors_origins": [PAGE]});
        let made = send("POST", PATH, Some(body)).await.json();
        assert!(made["token"].as_str().unwrap().starts_with("upt_"), "{made}");
        ids.insert(0, made["id"].as_str().unwrap().to_owned());
    }
    let first = send("GET", &format!("{PATH}?limit=2"), None).await;
    assert!(!first.text.contains("upt_") && !first.text.contains("hash"), "{first:?}");
    let first = first.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = send("GET", &format!("{PATH}?limit=2&cursor={cursor}"), None).await.json();
    assert_eq!(second["next_cursor"], Value::Null);
    let items = [&first, &second].into_iter().flat_map(|page| page["items"].as_array().unwrap());
    let items: Vec<_> = items.collect();
    assert_eq!(items.iter().map(|item| item["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
    let newest = items[0];
    for (name, value) in [
        ("policy", json!("tracks")),
        ("max_uploads", json!(3)),
        ("uploads", json!(0)),
        ("max_size", json!(5000)),
        ("attach_to", json!("album:1:cover")),
        ("metadata", json!({"form": "42"})),
        ("cors_origins", json!([PAGE])),
        ("revoked_at", Value::Null),
    ] {
        assert_eq!(newest[name], value, "{name}");
    }
    let path = format!("{PATH}/{}", ids[0]);
    let bob = server.key("bob", Scopes::all()).await;
    let others = fetch(server.request("DELETE", &path).header("authorization", &bob)).await;
    others.is_problem(404, "not-found");
    assert_eq!(send("DELETE", &path, None).await.status, 204);
    assert_eq!(send("DELETE", &path, None).await.status, 204, "revoking it again is not an error");
    let listed = send("GET", PATH, None).await.json();
    assert!(
        listed["items"][0]["revoked_at"].is_string() && listed["items"][1]["revoked_at"].is_null()
    );
    server.stop().await;
}

#[tokio::test]
async fn invalid_properties_of_a_token_are_refused_by_name() {
    let server = Server::start().await;
    let policy = |more: Value| {
        let mut body = json!({"policy": "tracks"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (body, field) in [
        (json!({}), "policy"),
        (json!({"policy": "none"}), "policy"),
        (policy(json!({"expires_in": 0})), "expires_in"),
        (policy(json!({"expires_in": 2_592_001})), "expires_in"),
        (policy(json!({"max_uploads": 0})), "max_uploads"),
        (policy(json!({"max_uploads": 1_000_000_001})), "max_uploads"),
        (policy(json!({"max_size": 0})), "max_size"),
        (policy(json!({"max_size": -1})), "max_size"),
        (policy(json!({"attach_to": ""})), "attach_to"),
        (policy(json!({"attach_to": "a b"})), "attach_to"),
        (policy(json!({"metadata": {"A": "b"}})), "metadata"),
        (policy(json!({"metadata": {"a": "x".repeat(2048)}})), "metadata"),
        (policy(json!({"cors_origins": ["app.example.com"]})), "cors_origins"),
        (policy(json!({"cors_origins": [format!("{PAGE}/")]})), "cors_origins"),
        (policy(json!({"cors_origins": vec![PAGE; 21]})), "cors_origins"),
        (policy(json!({"owner": "bob"})), "owner"),
    ] {
        let found = server.send("POST", PATH, body.clone()).await;
        assert_eq!(found.status, 400, "{body}: {found:?}");
        found.blames(field);
    }
    let track = "track:0190a6f2-7b3c-7def-8123-456789abcdef";
    let found = server.send("POST", PATH, policy(json!({"attach_to": track}))).await;
    found.is_problem(404, "not-found");
    server.send("POST", PATH, policy(json!({"expires_in": 2_592_000, "max_uploads": 1}))).await;
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_enforced_where_authentication_is_off() {
    let server = Server::start().await;
    let (token, id) = issue(&server, json!({"policy": "tracks", "max_uploads": 1})).await;
    let mut wrong = token.clone();
    wrong.pop();
    wrong.push(if token.ends_with('0') { '1' } else { '0' });
    let other_id = token.replacen(&token[4..12], "ffffffff", 1);
    for unknown in [
        wrong.as_str(),
        &other_id,
        "upt_",
        "upt_x",
        &token.to_uppercase().replacen("UPT", "upt", 1),
    ] {
        let by_header = fetch(bearer(server.request("GET", "/api/uploads"), unknown)).await;
        by_header.is_problem(401, "unauthorized");
        let by_path = server.get(&format!("/t/{unknown}/api/uploads")).await;
        by_path.is_problem(401, "unauthorized");
        assert_eq!(by_path.json()["detail"], by_header.json()["detail"]);
    }
    assert_eq!(create(&server, &token, json!({"filename": "a.mp3"})).await.status, 201);
    let more = create(&server, &token, json!({"filename": "a.mp3"})).await;
    more.is_problem(403, "token-exhausted");
    let other = create(&server, &token, json!({"filename": "a.mp3", "policy": "x"})).await;
    other.is_problem(403, "forbidden");
    let other = create(&server, &token, json!({"filename": "a.mp3", "attach_to": "a"})).await;
    other.is_problem(403, "forbidden");
    assert_eq!(server.send("DELETE", &format!("{PATH}/{id}"), json!({})).await.status, 204);
    for path in ["/api/uploads".to_owned(), format!("/t/{token}/api/uploads")] {
        let request = bearer(server.request("GET", &path), &token);
        fetch(request).await.is_problem(401, "unauthorized");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_without_headers_uploads_below_the_prefix() {
    let server = Server::start().await;
    let (token, _) = issue(&server, json!({"policy": "tracks"})).await;
    let base = format!("/t/{token}");
    let body = json!({"filename": "a.mp3", "strategy": "direct"});
    let made = server.send("POST", &format!("{base}/api/uploads/"), body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let location = made.header("location").to_owned();
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(location, format!("{base}/api/uploads/{id}"));
    let url = made.json()["request"]["url"].as_str().unwrap().to_owned();
    assert_eq!(url, format!("{location}/content"));
    let put = server.request("PUT", &url).header("content-type", "audio/mpeg").body(mp3(900, 1));
    assert_eq!(fetch(put).await.json()["status"], "uploaded");
    let found = server.get(&format!("{location}?wait=5")).await;
    assert_eq!((found.status.as_u16(), &found.json()["status"]), (200, &json!("uploaded")));
    let file = server.get(&format!("{location}/file?redirect=false")).await;
    assert!(file.json()["url"].is_string(), "{file:?}");
    let listed = server.get(&format!("{base}/api/uploads?limit=1")).await.json();
    assert_eq!(listed["items"][0]["id"], json!(id));
    assert_eq!(server.send("DELETE", &location, json!({})).await.status, 204);
    // The URL in a presign response has the prefix, too.
    let body = json!({"filename": "a.mp3", "strategy": "direct"});
    let made = server.send("POST", &format!("{base}/api/uploads"), body).await;
    let location = made.header("location").to_owned();
    let again = server.send("POST", &format!("{location}/presign"), json!({})).await;
    assert_eq!(again.json()["request"]["url"], format!("{location}/content"));
    // With the token in the header, URLs have no prefix.
    let made = create(&server, &token, json!({"filename": "a.mp3", "strategy": "direct"})).await;
    assert!(made.header("location").starts_with("/api/uploads/"), "{made:?}");
    server.stop().await;
}

#[tokio::test]
async fn urls_below_the_prefix_are_absolute_with_a_public_url() {
    let protect = |_: &_| SecurityConfig {
        public_url: "https://up.example.com/base".to_owned(),
        ..SecurityConfig::default()
    };
    let timeout = std::time::Duration::from_secs(20);
    let server = Server::build(timeout, Quota::default(), protect).await;
    let (token, _) = issue(&server, json!({"policy": "tracks"})).await;
    let body = json!({"filename": "a.mp3", "strategy": "direct"});
    let made = server.send("POST", &format!("/t/{token}/api/uploads"), body).await;
    let url = made.json()["request"]["url"].as_str().unwrap().to_owned();
    let start = format!("https://up.example.com/base/t/{token}/api/uploads/");
    assert!(url.starts_with(&start), "{url}");
    server.stop().await;
}

#[tokio::test]
async fn the_prefix_is_removed_once_and_the_token_in_it_is_the_credential() {
    let server = Server::keyed().await;
    let ann = server.key("ann", Scopes::all()).await;
    let request = server.request("POST", PATH).header("authorization", &ann);
    let made = fetch(request.json(&json!({"policy": "tracks"}))).await.json();
    let token = made["token"].as_str().unwrap();
    let upper = format!("%75{}", &token[1..]);
    for (path, status) in [
        (format!("/t/{token}/api/uploads"), 200),
        (format!("/t/{token}//api/uploads/"), 200),
        (format!("/t/{upper}/api/uploads"), 200),
        (format!("/t/{token}/t/{token}/api/uploads"), 404),
        (format!("/t/x/t/{token}/api/uploads"), 404),
        (format!("/t/{token}"), 404),
        ("/t".to_owned(), 404),
        ("/t/x".to_owned(), 404),
        ("/t//api/uploads".to_owned(), 404),
        (format!("/T/{token}/api/uploads"), 404),
        (format!("/t/{token}%2fapi%2fuploads"), 404),
        (format!("/api/uploads?token={token}"), 401),
        ("/t/x/api/uploads".to_owned(), 401),
        ("/t/%ff/api/uploads".to_owned(), 401),
        (format!("/t/{}/api/uploads", ann.trim_start_matches("Bearer ")), 401),
        (format!("/t/{token}/api/tracks"), 403),
        (format!("/t/{token}/healthz"), 403),
        (format!("/t/{token}/nowhere"), 404),
    ] {
        let found = server.get(&path).await;
        assert_eq!(found.status.as_u16(), status, "{path}: {found:?}");
        assert!(!found.text.contains(token), "{path}: {found:?}");
    }
    // If there is a prefix, the header is ignored.
    for (path, header, status) in [
        (format!("/t/{token}/api/tracks"), ann.as_str(), 403),
        (format!("/t/{token}/api/uploads"), "Bearer nonsense", 200),
        ("/t/nonsense/api/uploads".to_owned(), ann.as_str(), 401),
    ] {
        let found = fetch(server.request("GET", &path).header("authorization", header)).await;
        assert_eq!(found.status.as_u16(), status, "{path}: {found:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_upload_token_counts_towards_its_owners_rate_limit_and_quota() {
    let one = std::num::NonZeroU32::MIN;
    let quota = Quota { uploads_per_day: Some(1), ..Quota::default() };
    let server = Server::protected(quota, |security| {
        security.rate_limit = Some(RateLimit::new(one, 3.try_into().unwrap()));
    })
    .await;
    let ann = server.key("ann", Scopes::all()).await;
    let request = server.request("POST", PATH).header("authorization", &ann);
    let made = fetch(request.json(&json!({"policy": "tracks", "max_uploads": 5}))).await.json();
    let token = made["token"].as_str().unwrap();
    assert_eq!(create(&server, token, json!({"filename": "a.mp3"})).await.status, 201);
    create(&server, token, json!({"filename": "a.mp3"})).await.is_problem(429, "quota-exceeded");
    create(&server, token, json!({"filename": "a.mp3"})).await.is_problem(429, "rate-limited");
    let limited = fetch(server.request("GET", "/api/uploads").header("authorization", &ann)).await;
    limited.is_problem(429, "rate-limited");
    let found = server.app.db.upload_tokens().find(made["id"].as_str().unwrap().parse().unwrap());
    assert_eq!(
        found.await.unwrap().unwrap().uploads,
        1,
        "uploads that the quota refuses do not count"
    );
    server.stop().await;
}

#[tokio::test]
async fn only_the_scope_that_creates_uploads_creates_tokens() {
    let server = Server::keyed().await;
    let reader = server.key("ann", [Scope::UploadsRead].into_iter().collect()).await;
    let request = server.request("POST", PATH).header("authorization", &reader);
    fetch(request.json(&json!({"policy": "tracks"}))).await.is_problem(403, "forbidden");
    let writer = server.key("ann", [Scope::UploadsWrite].into_iter().collect()).await;
    let request = server.request("POST", PATH).header("authorization", &writer);
    let made = fetch(request.json(&json!({"policy": "tracks"}))).await.json();
    let token = made["token"].as_str().unwrap();
    let request = bearer(server.request("POST", PATH), token);
    fetch(request.json(&json!({"policy": "tracks"}))).await.is_problem(403, "forbidden");
    server.stop().await;
}

fn preflight(server: &Server, path: &str, origin: &str) -> RequestBuilder {
    server
        .request("OPTIONS", path)
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type")
}

#[tokio::test]
async fn pages_of_the_tokens_origins_may_use_it_as_a_prefix() {
    let server = Server::start().await;
    let (token, id) = issue(&server, json!({"policy": "tracks", "cors_origins": [PAGE]})).await;
    let (plain, _) = issue(&server, json!({"policy": "tracks"})).await;
    let path = format!("/t/{token}/api/uploads");
    let allowed = fetch(preflight(&server, &path, PAGE)).await;
    assert_eq!(allowed.status, 200, "{allowed:?}");
    assert_eq!(allowed.header("access-control-allow-origin"), PAGE);
    assert!(allowed.header("access-control-allow-headers").to_lowercase().contains("content-type"));
    let request = server.request("POST", &path).header("origin", PAGE);
    let made = fetch(request.json(&json!({"filename": "a.mp3"}))).await;
    assert_eq!((made.status.as_u16(), made.header("access-control-allow-origin")), (201, PAGE));
    assert!(made.header("access-control-expose-headers").to_lowercase().contains("location"));
    for (path, origin) in [
        (path.clone(), "https://evil.example.com"),
        (format!("/t/{plain}/api/uploads"), PAGE),
        ("/t/upt_unknown/api/uploads".to_owned(), PAGE),
        ("/api/uploads".to_owned(), PAGE),
    ] {
        let refused = fetch(preflight(&server, &path, origin)).await;
        assert!(!refused.headers.contains_key("access-control-allow-origin"), "{path}");
        let refused = fetch(server.request("GET", &path).header("origin", origin)).await;
        assert!(!refused.headers.contains_key("access-control-allow-origin"), "{path}");
    }
    // A page can read why its token is refused.
    server.send("DELETE", &format!("{PATH}/{id}"), json!({})).await;
    let refused = fetch(server.request("GET", &path).header("origin", PAGE)).await;
    refused.is_problem(401, "unauthorized");
    assert_eq!(refused.header("access-control-allow-origin"), PAGE);
    server.stop().await;
}

#[tokio::test]
async fn pages_of_the_configured_origins_may_use_every_token() {
    let protect = |_: &_| SecurityConfig {
        cors_origins: vec!["https://web.example.com".to_owned()],
        ..SecurityConfig::default()
    };
    let timeout = std::time::Duration::from_secs(20);
    let server = Server::build(timeout, Quota::default(), protect).await;
    let (token, _) = issue(&server, json!({"policy": "tracks", "cors_origins": [PAGE]})).await;
    let (plain, _) = issue(&server, json!({"policy": "tracks"})).await;
    for (token, origin, allowed) in [
        (&token, PAGE, true),
        (&token, "https://web.example.com", true),
        (&plain, "https://web.example.com", true),
        (&plain, PAGE, false),
    ] {
        let path = format!("/t/{token}/api/uploads");
        let found = fetch(server.request("GET", &path).header("origin", origin)).await;
        let header = found.header("access-control-allow-origin");
        assert_eq!(header, if allowed { origin } else { "" });
    }
    server.stop().await;
}

#[tokio::test]
async fn a_begun_multipart_upload_is_finished_with_its_token() {
    let server = Server::start().await;
    let (token, _) = issue(&server, json!({"policy": "tracks"})).await;
    let body = json!({"filename": "a.mp3", "size": 5_000_000, "strategy": "multipart"});
    let made = create(&server, &token, body).await.json();
    let path = format!("/api/uploads/{}", made["id"].as_str().unwrap());
    let send = async |method: &str, tail: &str, body: Value| {
        let request = bearer(server.request(method, &format!("{path}{tail}")), &token);
        fetch(request.json(&body)).await
    };
    let parts = send("POST", "/parts", json!({"part_numbers": [1]})).await;
    assert_eq!(parts.json()["parts"][0]["part_number"], 1);
    assert_eq!(send("GET", "/parts", json!({})).await.json()["parts"], json!([]));
    send("POST", "/complete", json!({})).await.is_problem(409, "parts-incomplete");
    assert_eq!(send("DELETE", "", json!({})).await.status, 204);
    server.stop().await;
}
