//! Security headers, CORS, TLS, signed cursors, and the pages of problems.

use serde_json::{Value, json};
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::http::SecurityConfig;

use super::kit::{Response, Server, fetch};

async fn allowing(origins: &[&str]) -> Server {
    let origins: Vec<_> = origins.iter().map(|origin| (*origin).to_owned()).collect();
    let protect = |_: &_| SecurityConfig { cors_origins: origins, ..SecurityConfig::default() };
    Server::build(std::time::Duration::from_secs(20), Quota::default(), protect).await
}

#[tokio::test]
async fn every_response_has_the_security_headers() {
    let server = Server::start().await;
    for path in ["/healthz", "/api/tracks", "/api/tracks/x", "/nowhere", "/api/tracks?limit=0"] {
        let found = server.get(path).await;
        assert_eq!(found.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(found.header("referrer-policy"), "no-referrer", "{path}");
        let policy = found.header("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{path}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(!found.headers.contains_key("strict-transport-security"), "not without TLS");
    }
    for path in ["/api/schema/swagger-ui", "/problems/validation"] {
        let page = server.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.header("content-security-policy").contains("script-src 'self'"), "{path}");
        assert!(!page.text.contains("<script>"), "{path}: an inline script would not run");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_type_of_every_problem_is_the_path_of_a_page() {
    let server = Server::start().await;
    for found in [server.get("/nowhere").await, server.get("/api/tracks?limit=0").await] {
        let path = found.json()["type"].as_str().unwrap().to_owned();
        let page = server.get(&path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.header("content-type").starts_with("text/html"));
        let title = found.json()["title"].as_str().unwrap().to_owned();
        assert!(page.text.contains(&title), "{path}");
    }
    // The problem types in the OpenAPI document have pages, too.
    let document = server.get("/api/schema").await.text;
    let types = document.split("\"/problems/").skip(1);
    let types: std::collections::BTreeSet<_> = types
        .filter_map(|remaining| remaining.split('"').next())
        .filter(|name| *name != "{name}")
        .collect();
    assert!(types.len() > 10, "{types:?}");
    for name in types {
        assert_eq!(server.get(&format!("/problems/{name}")).await.status, 200, "{name}");
    }
    server.get("/problems/none").await.is_problem(404, "not-found");
    server.stop().await;
}

#[tokio::test]
async fn only_configured_origins_are_allowed() {
    let from = async |server: &Server, origin: &str| -> Response {
        fetch(server.request("GET", "/api/tracks").header("origin", origin)).await
    };
    let preflight = async |server: &Server, origin: &str| -> Response {
        let request = server.request("OPTIONS", "/api/tracks").header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        let requested = "authorization,content-type,idempotency-key";
        fetch(request.header("access-control-request-headers", requested)).await
    };
    let (ours, theirs) = ("https://app.example.com", "https://evil.example.com");
    let allowed = "access-control-allow-origin";

    let closed = Server::start().await;
    assert_eq!(from(&closed, ours).await.header(allowed), "");
    preflight(&closed, ours).await.is_problem(405, "method-not-allowed");
    closed.stop().await;

    let server = allowing(&[ours]).await;
    let found = from(&server, ours).await;
    assert_eq!((found.status.as_u16(), found.header(allowed)), (200, ours));
    let exposed = found.header("access-control-expose-headers").to_ascii_lowercase();
    for name in ["location", "x-request-id", "ratelimit", "retry-after"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    assert!(!found.headers.contains_key("access-control-allow-credentials"));
    let found = preflight(&server, ours).await;
    assert_eq!((found.status.as_u16(), found.header(allowed)), (200, ours), "{found:?}");
    assert_eq!(from(&server, theirs).await.header(allowed), "");
    assert_eq!(preflight(&server, theirs).await.header(allowed), "");
    // The page that sent the request can read the problem.
    let request = server.request("GET", "/api/tracks/x").header("origin", ours);
    let found = fetch(request).await;
    found.is_problem(404, "not-found");
    assert_eq!(found.header(allowed), ours);
    server.stop().await;

    let open = allowing(&["*"]).await;
    assert_eq!(from(&open, theirs).await.header(allowed), "*");
    open.stop().await;
}

#[tokio::test]
async fn every_preflight_response_lists_the_allowed_methods_and_headers() {
    let origin = "https://app.example.com";
    let server = allowing(&[origin]).await;
    for (method, headers) in [
        ("POST", "content-type,x-requested-with"),
        ("PUT", "cache-control"),
        ("GET", "not a name"),
        ("BREW", "authorization"),
    ] {
        let request = server.request("OPTIONS", "/api/tracks").header("origin", origin);
        let request = request.header("access-control-request-method", method);
        let found = fetch(request.header("access-control-request-headers", headers)).await;
        assert_eq!(found.status, 200, "{headers}: {found:?}");
        assert_eq!(found.header("access-control-allow-origin"), origin);
        let allowed = found.header("access-control-allow-headers").to_ascii_lowercase();
        assert!(allowed.contains("authorization") && allowed.contains("idempotency-key"));
        assert!(!allowed.contains("x-requested-with") && !allowed.contains("cache-control"));
        let methods = found.header("access-control-allow-methods");
        assert!(methods.contains("PATCH") && !methods.contains("BREW"), "{methods}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_cursor_of_another_list_is_400() {
    let server = Server::start().await;
    for _ in 0..2 {
        server.track().await;
        let created = server.send("POST", "/api/uploads", json!({"filename": "a.mp3"})).await;
        assert_eq!(created.status, 201, "{created:?}");
    }
    let lists = ["/api/tracks", "/api/uploads"];
    let paths = ["/api/tracks", "/api/uploads", "/api/admin/webhooks/deliveries"];
    for list in lists {
        let page = server.get(&format!("{list}?limit=1")).await.json();
        let cursor = page["next_cursor"].as_str().unwrap().to_owned();
        for path in paths {
            let found = server.get(&format!("{path}?limit=1&cursor={cursor}")).await;
            if path == list {
                assert_eq!(found.status, 200, "{found:?}");
            } else {
                found.blames("cursor");
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_cursor_that_was_changed_or_is_from_another_database_is_400() {
    let server = Server::start().await;
    for _ in 0..3 {
        server.track().await;
    }
    let next = |response: &Response| response.json()["next_cursor"].as_str().map(str::to_owned);
    let first = server.get("/api/tracks?limit=1").await;
    let cursor = next(&first).unwrap();
    let second = server.get(&format!("/api/tracks?limit=1&cursor={cursor}")).await;
    assert_eq!(second.status, 200, "{second:?}");
    for at in [0, cursor.len() / 2, cursor.len() - 3] {
        let letter = if &cursor[at..=at] == "A" { "B" } else { "A" };
        let changed = format!("{}{letter}{}", &cursor[..at], &cursor[at + 1..]);
        server.get(&format!("/api/tracks?limit=1&cursor={changed}")).await.blames("cursor");
    }
    let other = Server::start().await;
    other.get(&format!("/api/tracks?limit=1&cursor={cursor}")).await.blames("cursor");
    other.stop().await;
    // All processes on a database share the key that signs cursors.
    let signed = |key: &upload_coordinator::db::CursorKey| {
        let (order, id) = ("x".to_owned(), uuid::Uuid::nil());
        upload_coordinator::db::Cursor { order, value: String::new(), id }.encode(key)
    };
    let replica = server.database.connect().await;
    let (one, two) = tokio::join!(server.app.db.cursor_key(), replica.cursor_key());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(signed(&one), signed(&two));
    server.stop().await;
}

#[tokio::test]
async fn with_a_certificate_the_service_accepts_only_tls() {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_slice(include_bytes!("keys/localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("keys/localhost-key.pem"));
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.unwrap())
        .unwrap();
    let protect = |_: &_| SecurityConfig { tls: Some(tls), ..SecurityConfig::default() };
    let server = Server::build(std::time::Duration::from_secs(20), Quota::default(), protect).await;
    let plain = server.request("GET", "/healthz").send().await;
    assert!(plain.is_err(), "{plain:?}");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = server.address;
    let text = tokio::task::spawn_blocking(move || over_tls(address, client)).await;
    let text = text.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.to_ascii_lowercase().contains("strict-transport-security: max-age="), "{text}");
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    assert_eq!(serde_json::from_str::<Value>(body).ok(), Some(json!({"status": "ok"})));
    server.stop().await;
}

/// `GET /healthz` over a raw TLS connection.
fn over_tls(address: std::net::SocketAddr, client: rustls::ClientConfig) -> String {
    use std::io::{Read as _, Write as _};
    let name = "localhost".try_into().unwrap();
    let mut session = rustls::ClientConnection::new(client.into(), name).unwrap();
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    let request = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = Vec::new();
    // The server can close the connection without a TLS close_notify.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}
