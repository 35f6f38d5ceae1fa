//! tus 1.0 over HTTP: statuses and headers that clients rely on.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::stream;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::domain::PolicyName;
use upload_coordinator::http::SecurityConfig;
use upload_coordinator::http::dialects::{Dialect, family};
use upload_coordinator::storage::StoreError;
use upload_coordinator::storage::memory::Operation;

use super::kit::{Response, Server, fetch};
use crate::support::wait::wait_for;
use crate::support::{PNG, mp3};

const MIB: usize = 1 << 20;
const BYTES: &str = "application/offset+octet-stream";

async fn server() -> Server {
    server_with(|_| {}).await
}

async fn server_with(change: impl FnOnce(&mut SecurityConfig)) -> Server {
    let (policy, url_ttl) = (PolicyName::default(), TimeDelta::minutes(15));
    let tus = family("tus", Dialect { policy, url_ttl, write_once: false }).unwrap();
    let protect = |_: &_| {
        let mut security = SecurityConfig {
            dialects: vec![tus],
            cors_origins: vec!["https://app.example.com".to_owned()],
            ..SecurityConfig::default()
        };
        change(&mut security);
        security
    };
    Server::build(Duration::from_secs(20), Quota::default(), protect).await
}

fn tus(server: &Server, method: &str, path: &str) -> RequestBuilder {
    server.request(method, path).header("Tus-Resumable", "1.0.0")
}

fn metadata(name: &str) -> String {
    format!("filename {},filetype {}", STANDARD.encode(name), STANDARD.encode("audio/mpeg"))
}

async fn create(server: &Server, length: usize) -> String {
    let request = tus(server, "POST", "/tus/").header("Upload-Length", length);
    let created = fetch(request.header("Upload-Metadata", metadata("a.mp3"))).await;
    is_tus(&created, 201);
    assert_eq!(created.header("upload-offset"), "0");
    created.header("location").to_owned()
}

fn patch(server: &Server, path: &str, offset: usize, bytes: &[u8]) -> RequestBuilder {
    let request = tus(server, "PATCH", path).header("Upload-Offset", offset);
    request.header("Content-Type", BYTES).body(bytes.to_vec())
}

async fn head(server: &Server, path: &str) -> Response {
    fetch(tus(server, "HEAD", path)).await
}

/// Asserts the status and the headers that every response has.
#[track_caller]
fn is_tus(response: &Response, status: u16) {
    assert_eq!(response.status.as_u16(), status, "{response:?}");
    assert_eq!(response.header("tus-resumable"), "1.0.0", "{response:?}");
    if status >= 400 && !response.text.is_empty() {
        assert!(response.header("content-type").starts_with("text/plain"), "{response:?}");
        assert!(!response.text.starts_with('{'), "{response:?}");
    }
}

fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

async fn upload(server: &Server, path: &str) -> Value {
    server.get(&format!("/api/uploads/{}", id_of(path))).await.json()
}

#[tokio::test]
async fn a_file_in_pieces_is_verified_by_its_last_piece() {
    let server = server().await;
    let file = mp3(6 * MIB, 1);
    let path = create(&server, file.len()).await;
    let mut offset = 0;
    for size in [10, 3 * MIB, 1, 2 * MIB + 7, file.len()] {
        let piece = &file[offset..file.len().min(offset + size)];
        let sent = fetch(patch(&server, &path, offset, piece)).await;
        is_tus(&sent, 204);
        offset += piece.len();
        assert_eq!(sent.header("upload-offset"), offset.to_string());
        assert_eq!(sent.header("upload-expires").is_empty(), offset == file.len());
        let now = head(&server, &path).await;
        is_tus(&now, 200);
        assert_eq!(now.header("upload-offset"), offset.to_string());
        assert_eq!(now.header("upload-length"), file.len().to_string());
        assert_eq!(now.header("upload-metadata"), metadata("a.mp3"));
        assert_eq!(now.header("cache-control"), "no-store");
    }
    let uploaded = upload(&server, &path).await;
    assert_eq!(uploaded["status"], "uploaded");
    assert_eq!(uploaded["strategy"], "tus");
    assert_eq!((&uploaded["filename"], &uploaded["size"]), (&json!("a.mp3"), &json!(file.len())));
    assert!(server.store.keys().iter().all(|key| !key.contains(".tails")));
    server.stop().await;
}

#[tokio::test]
async fn a_rejected_file_is_an_error_of_the_last_piece_with_a_sentence() {
    let server = server().await;
    let path = create(&server, PNG.len()).await;
    is_tus(&fetch(patch(&server, &path, 0, &PNG[..10])).await, 204);
    let refused = fetch(patch(&server, &path, 10, &PNG[10..])).await;
    is_tus(&refused, 400);
    assert!(refused.text.starts_with("file: "), "{refused:?}");
    is_tus(&head(&server, &path).await, 410);
    assert_eq!(upload(&server, &path).await["status"], "rejected");
    // The first request already contains the whole file.
    let request = tus(&server, "POST", "/tus").header("Upload-Length", PNG.len());
    let request = request.header("Upload-Metadata", metadata("a.mp3"));
    let refused = fetch(request.header("Content-Type", BYTES).body(PNG)).await;
    is_tus(&refused, 400);
    // A creation that breaks a rule is refused before any bytes are sent.
    for (length, name, status, words) in [
        (17 * MIB, "a.mp3", 413, "16777216"),
        (0, "a.mp3", 400, "empty"),
        (10, "a.exe", 400, "filename: "),
        (10, "a/b.mp3", 400, "filename: "),
    ] {
        let request = tus(&server, "POST", "/tus").header("Upload-Length", length);
        let refused = fetch(request.header("Upload-Metadata", metadata(name))).await;
        is_tus(&refused, status);
        assert!(refused.text.contains(words), "{refused:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn requests_that_violate_the_protocol_are_refused_with_the_right_status() {
    let server = server().await;
    let path = create(&server, 1000).await;
    let file = mp3(1000, 1);
    let options = fetch(server.request("OPTIONS", "/tus/")).await;
    is_tus(&options, 204);
    assert_eq!(options.header("tus-version"), "1.0.0");
    assert_eq!(options.header("tus-max-size"), (16 * MIB).to_string());
    assert_eq!(options.header("tus-checksum-algorithm"), "sha1,sha256,md5");
    let extensions =
        "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination";
    assert_eq!(options.header("tus-extension"), extensions);

    for (method, path) in [("POST", "/tus"), ("HEAD", &path), ("PATCH", &path), ("DELETE", &path)] {
        for version in [None, Some("0.2.2")] {
            let request = server.request(method, path);
            let request = version.into_iter().fold(request, |r, v| r.header("Tus-Resumable", v));
            let refused = fetch(request).await;
            is_tus(&refused, 412);
            assert_eq!(refused.header("tus-version"), "1.0.0");
        }
    }
    let concat = tus(&server, "POST", "/tus").header("Upload-Concat", "partial");
    is_tus(&fetch(concat.header("Upload-Length", 5)).await, 501);
    for (name, value) in [("Upload-Length", "x"), ("Upload-Defer-Length", "2"), ("X-None", "")] {
        is_tus(&fetch(tus(&server, "POST", "/tus").header(name, value)).await, 400);
    }
    let both = tus(&server, "POST", "/tus").header("Upload-Length", 5);
    is_tus(&fetch(both.header("Upload-Defer-Length", "1")).await, 400);
    let other = tus(&server, "POST", "/tus").header("Upload-Length", 5);
    is_tus(&fetch(other.header("Content-Type", "text/plain").body("hello")).await, 415);

    let sent = |offset: &str, kind: &str, body: &[u8]| {
        let request = tus(&server, "PATCH", &path).header("Upload-Offset", offset);
        request.header("Content-Type", kind).body(body.to_vec())
    };
    is_tus(&fetch(sent("0", "text/plain", &file)).await, 415);
    is_tus(&fetch(sent("-1", BYTES, &file)).await, 400);
    is_tus(&fetch(sent("10", BYTES, &file)).await, 409);
    is_tus(&fetch(sent("0", BYTES, &[&file[..], b"x"].concat())).await, 413);
    let without = tus(&server, "PATCH", &path).header("Content-Type", BYTES).body("x");
    is_tus(&fetch(without).await, 400);
    let sum = async |text: &str| {
        let request = patch(&server, &path, 0, b"hello").header("Upload-Checksum", text);
        fetch(request).await
    };
    is_tus(&sum("sha1 AAAA").await, 460);
    is_tus(&sum("crc32 AAAA").await, 400);
    is_tus(&sum("sha1").await, 400);
    assert_eq!(head(&server, &path).await.header("upload-offset"), "0");
    for path in ["/tus/x", "/tus/0190a6f2-7b3c-7def-8123-456789abcdef", "/tus/x/y"] {
        is_tus(&head(&server, path).await, 404);
    }
    is_tus(&fetch(tus(&server, "PUT", &path)).await, 405);
    // An upload of the native API is not a tus upload.
    let native = server.send("POST", "/api/uploads", json!({"filename": "a.mp3"})).await.json();
    let native = format!("/tus/{}", native["id"].as_str().unwrap());
    is_tus(&head(&server, &native).await, 404);
    let strategy = json!({"filename": "a.mp3", "strategy": "tus"});
    server.send("POST", "/api/uploads", strategy).await.blames("strategy");
    server.stop().await;
}

#[tokio::test]
async fn other_ways_to_send_the_bytes() {
    let server = server().await;
    let file = mp3(2000, 1);
    // The bytes are sent with the creation.
    let request = tus(&server, "POST", "/tus").header("Upload-Length", file.len());
    let request = request.header("Upload-Metadata", metadata("a.mp3"));
    let created = fetch(request.header("Content-Type", BYTES).body(file[..500].to_vec())).await;
    is_tus(&created, 201);
    assert_eq!(created.header("upload-offset"), "500");
    let path = created.header("location").to_owned();
    // The bytes are sent by POST, and with a checksum.
    let by_post = tus(&server, "POST", &path).header("X-HTTP-Method-Override", "PATCH");
    let by_post = by_post.header("Upload-Offset", 500).header("Content-Type", BYTES);
    let sum = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &file[500..700]);
    let sum = format!("sha1 {}", STANDARD.encode(sum));
    let by_post = by_post.header("Upload-Checksum", sum).body(file[500..700].to_vec());
    is_tus(&fetch(by_post).await, 204);
    let by_post = tus(&server, "POST", &path).header("X-HTTP-Method-Override", "HEAD");
    assert_eq!(fetch(by_post).await.header("upload-offset"), "700");
    is_tus(&fetch(tus(&server, "POST", &path)).await, 405);
    // The bytes are sent without a length.
    let chunks: Vec<Result<Bytes, std::io::Error>> = vec![Ok(Bytes::from(file[700..].to_vec()))];
    let body = reqwest::Body::wrap_stream(stream::iter(chunks));
    let chunked = tus(&server, "PATCH", &path).header("Upload-Offset", 700);
    is_tus(&fetch(chunked.header("Content-Type", BYTES).body(body)).await, 204);
    assert_eq!(upload(&server, &path).await["status"], "uploaded");

    // The last request declares the length and has no bytes.
    let request = tus(&server, "POST", "/tus").header("Upload-Defer-Length", "1");
    let created = fetch(request.header("Upload-Metadata", metadata("b.mp3"))).await;
    is_tus(&created, 201);
    let path = created.header("location").to_owned();
    is_tus(&fetch(patch(&server, &path, 0, &file)).await, 204);
    let now = head(&server, &path).await;
    assert_eq!((now.header("upload-defer-length"), now.header("upload-length")), ("1", ""));
    let last = patch(&server, &path, file.len(), b"").header("Upload-Length", file.len());
    is_tus(&fetch(last).await, 204);
    assert_eq!(upload(&server, &path).await["status"], "uploaded");
    server.stop().await;
}

#[tokio::test]
async fn a_client_does_not_start_again_after_a_temporary_error_of_head() {
    let server = server().await;
    let path = create(&server, 6 * MIB).await;
    is_tus(&fetch(patch(&server, &path, 0, &mp3(6 * MIB, 1)[..=5 * MIB])).await, 204);
    // All bytes are stored, but the store fails to make the object from them.
    let down = || StoreError::Unavailable("down".into());
    server.store.fail_next(Operation::CompleteMultipart, 2, down);
    let last_patch = patch(&server, &path, 5 * MIB + 1, &mp3(6 * MIB, 1)[5 * MIB + 1..]);
    is_tus(&fetch(last_patch).await, 503);
    is_tus(&head(&server, &path).await, 423);
    let now = head(&server, &path).await;
    is_tus(&now, 200);
    assert_eq!(now.header("upload-offset"), (6 * MIB).to_string());
    assert_eq!(upload(&server, &path).await["status"], "uploaded");
    server.stop().await;
}

#[tokio::test]
async fn a_terminated_upload_is_gone() {
    let server = server().await;
    let path = create(&server, 1000).await;
    is_tus(&fetch(patch(&server, &path, 0, b"x")).await, 204);
    let delete = async || fetch(tus(&server, "DELETE", &path)).await;
    is_tus(&delete().await, 204);
    is_tus(&delete().await, 410);
    is_tus(&head(&server, &path).await, 410);
    is_tus(&fetch(patch(&server, &path, 1, b"x")).await, 410);
    assert!(server.store.keys().iter().all(|key| !key.contains(".tails")));
    server.stop().await;
}

#[tokio::test]
async fn bytes_that_arrived_before_a_connection_broke_are_stored() {
    let server = server().await;
    let path = create(&server, 100_000).await;
    let mut connection = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "PATCH {path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n\
         Content-Type: {BYTES}\r\nContent-Length: 100000\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    connection.write_all(&mp3(40_000, 1)).await.unwrap();
    connection.shutdown().await.unwrap();
    drop(connection);
    // The test reads the database, because a HEAD request would stop the PATCH request before the
    // service has read all bytes that were sent.
    let id = id_of(&path).parse().unwrap();
    wait_for("the bytes", async || {
        let found = server.app.db.tus().find(id).await.unwrap().unwrap();
        (found.stored == 40_000).then_some(())
    })
    .await;
    assert_eq!(head(&server, &path).await.header("upload-offset"), "40000");
    // A browser may repeat the request.
    is_tus(&fetch(patch(&server, &path, 0, &mp3(100_000, 1))).await, 409);
    is_tus(&fetch(patch(&server, &path, 40_000, &mp3(100_000, 1)[40_000..])).await, 204);
    assert_eq!(upload(&server, &path).await["status"], "uploaded");
    server.stop().await;
}

#[tokio::test]
async fn locations_keep_an_upload_token_in_the_path_and_it_works_only_for_its_uploads() {
    let server = server().await;
    let body = json!({"policy": "tracks", "max_size": 5000});
    let token = server.send("POST", "/api/upload-tokens", body).await.json();
    let token = token["token"].as_str().unwrap();
    let others = create(&server, 1000).await;
    let base = format!("/t/{token}/tus");
    let request = tus(&server, "POST", &base).header("Upload-Length", 1000);
    let created = fetch(request.header("Upload-Metadata", metadata("a.mp3"))).await;
    is_tus(&created, 201);
    let path = created.header("location").to_owned();
    assert!(path.starts_with(&format!("{base}/")), "{path}");
    is_tus(&fetch(patch(&server, &path, 0, &mp3(1000, 1))).await, 204);
    is_tus(&head(&server, &path).await, 200);
    is_tus(&head(&server, &format!("{base}/{}", id_of(&others))).await, 404);
    let options = fetch(server.request("OPTIONS", &base)).await;
    assert_eq!(options.header("tus-max-size"), "5000");
    let large = tus(&server, "POST", &base).header("Upload-Length", 5001);
    is_tus(&fetch(large).await, 413);
    server.stop().await;
}

#[tokio::test]
async fn a_browser_may_send_and_read_the_headers_of_tus() {
    let server = server().await;
    let preflight = server
        .request("OPTIONS", "/tus")
        .header("Origin", "https://app.example.com")
        .header("Access-Control-Request-Method", "PATCH")
        .header("Access-Control-Request-Headers", "tus-resumable,x-anything");
    let allowed = fetch(preflight).await;
    assert_eq!(allowed.status, 200, "{allowed:?}");
    let list = |name: &str| allowed.header(name).to_ascii_lowercase();
    for method in ["post", "head", "patch", "delete"] {
        assert!(list("access-control-allow-methods").contains(method), "{allowed:?}");
    }
    for name in [
        "tus-resumable",
        "upload-length",
        "upload-offset",
        "upload-metadata",
        "upload-defer-length",
        "upload-concat",
        "upload-checksum",
        "x-http-method-override",
        "x-requested-with",
        "x-request-id",
        "authorization",
        "content-type",
    ] {
        assert!(list("access-control-allow-headers").contains(name), "{name}: {allowed:?}");
    }
    let request = tus(&server, "POST", "/tus").header("Upload-Length", 10);
    let created = fetch(request.header("Origin", "https://app.example.com")).await;
    let exposed = created.header("access-control-expose-headers").to_ascii_lowercase();
    for name in ["location", "upload-offset", "upload-length", "upload-expires", "tus-resumable"] {
        assert!(exposed.contains(name), "{name}: {exposed}");
    }
    server.stop().await;
}
