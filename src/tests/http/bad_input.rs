//! Invalid requests and their problems.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::kit::{Server, fetch};

const NOBODY: &str = "0190a6f2-7b3c-7def-8123-456789abcdef";

#[tokio::test]
async fn every_invalid_field_of_a_track_is_named() {
    let server = Server::start().await;
    let good = json!({"title": "t", "artist_name": "a"});
    for (field, value) in [
        ("title", json!(null)),
        ("title", json!("")),
        ("title", json!("  ")),
        ("title", json!("x".repeat(101))),
        ("title", json!("a\0b")),
        ("title", json!("a\nb")),
        ("title", json!(5)),
        ("title", json!(["x"])),
        ("artist_name", json!("a\u{1f}b")),
        ("release_date", json!("31.01.2026")),
        ("release_date", json!("2026-02-30")),
        ("release_date", json!("0000-01-01")),
        ("release_date", json!("10000-01-01")),
        ("release_date", json!(20_260_131)),
        ("id", json!(NOBODY)),
        ("a\0b", json!(1)),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        let found = server.send("POST", "/api/tracks", body).await;
        found.blames(field);
    }
    let found = server.send("POST", "/api/tracks", json!({"title": "t"})).await;
    found.blames("artist_name");
    let track = server.track().await;
    let path = format!("/api/tracks/{track}");
    server.send("PATCH", &path, json!({"title": null})).await.blames("title");
    server.send("PUT", &path, json!({"title": "t"})).await.blames("artist_name");
    server.stop().await;
}

#[tokio::test]
async fn every_invalid_field_of_a_move_is_named() {
    let server = Server::start().await;
    let good = json!({"policy": "tracks", "from": "elsewhere"});
    for (field, value) in [
        ("policy", json!(null)),
        ("policy", json!("nothing")),
        ("from", json!(null)),
        ("from", json!(5)),
        ("from", json!("default")),
        ("from", json!("")),
        ("concurrency", json!(0)),
        ("concurrency", json!(257)),
        ("concurrency", json!(u64::MAX)),
        ("concurrency", json!(-1)),
        ("dry_run", json!("maybe")),
        ("mode", json!("audit")),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        server.send("POST", "/api/admin/moves", body).await.blames(field);
    }
    let mode = json!({"mode": "move"});
    server.send("POST", "/api/admin/reconciliations", mode).await.blames("mode");
    // The id of a reconciliation is not the id of a move.
    let started = server.send("POST", "/api/admin/reconciliations", json!({"mode": "audit"})).await;
    let path = format!("/api/admin/moves/{}", started.json()["id"].as_str().unwrap());
    for path in [path.clone(), format!("{path}/events"), format!("{path}/findings")] {
        assert_eq!(server.get(&path).await.status, 404, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn every_invalid_field_of_an_upload_is_named() {
    let server = Server::start().await;
    let good = json!({"filename": "a.mp3"});
    for (field, value) in [
        ("filename", json!(null)),
        ("filename", json!("")),
        ("filename", json!("../a.mp3")),
        ("filename", json!("a\\b.mp3")),
        ("filename", json!("a\0.mp3")),
        ("filename", json!("a.exe")),
        ("filename", json!(format!("{}.mp3", "x".repeat(300)))),
        ("content_type", json!("text/html")),
        ("content_type", json!("audio/mpeg\r\nx: y")),
        ("content_type", json!("audio")),
        ("size", json!(0)),
        ("size", json!(-1)),
        ("size", json!(1.5)),
        ("size", json!("5")),
        ("size", json!(u64::MAX)),
        ("checksum", json!({"algorithm": "sha1", "value": "AAAA"})),
        ("checksum", json!({"algorithm": "sha256", "value": "AAAA"})),
        ("checksum", json!(["sha256", "AAAA"])),
        ("checksum", json!("AAAA")),
        ("expires_in", json!(0)),
        ("expires_in", json!(-5)),
        ("expires_in", json!(i64::MAX)),
        ("expires_in", json!("60")),
        ("write_once", json!("yes")),
        ("strategy", json!("carrier-pigeon")),
        ("strategy", json!("tus")),
        ("policy", json!("no\0such")),
        ("track_id", json!("5")),
        ("metadata", json!({"a": "b\0"})),
        ("metadata", json!({"A B": "c"})),
        ("metadata", json!({"a": "x".repeat(3000)})),
        ("metadata", json!([])),
        ("key", json!("tracks/x")),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        let found = server.send("POST", "/api/uploads", body).await;
        found.blames(field);
    }
    let body = json!({"filename": "a.mp3", "checksum": {"algorithm": "sha256"}});
    server.send("POST", "/api/uploads", body).await.blames("checksum.value");
    let body = json!({"filename": "a.mp3", "track_id": NOBODY});
    server.send("POST", "/api/uploads", body).await.is_problem(404, "not-found");
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_is_not_a_json_object_is_refused() {
    let server = Server::start().await;
    for body in
        ["", "{", "[]", "null", "\"x\"", "{\"title\": \"a\"} {}", "{\"title\": \"\\ud800\"}"]
    {
        let request = server.request("POST", "/api/tracks").body(body);
        let found = fetch(request.header("content-type", "application/json")).await;
        found.blames("body");
    }
    let invalid_utf8 = b"{\"title\": \"\xff\"}".to_vec();
    let request = server.request("POST", "/api/tracks").body(invalid_utf8);
    fetch(request.header("content-type", "application/json")).await.blames("body");
    let deep = "[".repeat(10_000);
    let request = server.request("POST", "/api/tracks").body(format!("{{\"title\": {deep}"));
    let found = fetch(request.header("content-type", "application/json")).await;
    assert_eq!(found.status, 400, "{found:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_body_of_another_media_type_is_415() {
    let server = Server::start().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json"] {
        let request = server.request("POST", "/api/tracks").header("content-type", kind);
        fetch(request.body("{}")).await.is_problem(415, "unsupported-media-type");
    }
    let request = server.request("POST", "/api/tracks").body("{}");
    fetch(request).await.is_problem(415, "unsupported-media-type");
    let request = server.request("POST", "/api/tracks").json(&json!({}));
    let found = fetch(request.header("content-encoding", "gzip")).await;
    found.is_problem(415, "unsupported-media-type");
    let good = json!({"title": "t", "artist_name": "a"}).to_string();
    let request = server.request("POST", "/api/tracks").body(good);
    let request = request.header("content-type", "Application/JSON; charset=utf-8");
    assert_eq!(fetch(request).await.status, 201);
    server.stop().await;
}

#[tokio::test]
async fn a_json_body_over_its_limit_is_413_with_and_without_content_length() {
    let server = Server::start().await;
    let body = json!({"title": "x".repeat(100_000)}).to_string();
    let request = server.request("POST", "/api/tracks").body(body.clone());
    let found = fetch(request.header("content-type", "application/json")).await;
    found.is_problem(413, "body-too-large");
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(body)]);
    let request = server.request("POST", "/api/tracks").body(reqwest::Body::wrap_stream(chunks));
    let found = fetch(request.header("content-type", "application/json")).await;
    found.is_problem(413, "body-too-large");
    server.stop().await;
}

#[tokio::test]
async fn an_invalid_or_unknown_id_is_404_on_every_route() {
    let server = Server::start().await;
    for id in ["5", "x", "%00", "0190a6f27b3c7def8123456789abcdef", NOBODY] {
        for (method, path) in [
            ("GET", format!("/api/tracks/{id}")),
            ("DELETE", format!("/api/tracks/{id}")),
            ("GET", format!("/api/tracks/{id}/file")),
            ("POST", format!("/api/tracks/{id}/presigned-url")),
            ("PUT", format!("/api/tracks/{id}/upload/a.mp3")),
            ("GET", format!("/api/uploads/{id}")),
            ("DELETE", format!("/api/uploads/{id}")),
            ("POST", format!("/api/uploads/{id}/presign")),
            ("POST", format!("/api/uploads/{id}/confirm")),
            ("GET", format!("/api/admin/reconciliations/{id}")),
            ("GET", format!("/api/admin/reconciliations/{id}/findings")),
            ("POST", format!("/api/admin/reconciliations/{id}/cancel")),
        ] {
            let request = server.request(method, &path);
            let request = if method == "PUT" { request.body("ID3") } else { request };
            let found = fetch(request).await;
            found.is_problem(404, "not-found");
        }
        let body = json!({"title": "t", "artist_name": "a"});
        let path = format!("/api/tracks/{id}");
        server.send("PUT", &path, body).await.is_problem(404, "not-found");
        server.send("PATCH", &path, json!({})).await.is_problem(404, "not-found");
    }
    server.stop().await;
}

#[tokio::test]
async fn every_invalid_parameter_of_a_list_is_named() {
    let server = Server::start().await;
    let run = NOBODY;
    for (path, field) in [
        ("/api/tracks?limit=0", "limit"),
        ("/api/tracks?limit=1001", "limit"),
        ("/api/tracks?limit=x", "limit"),
        ("/api/tracks?cursor=x", "cursor"),
        ("/api/tracks?status=gone", "status"),
        ("/api/tracks?ordering=id", "ordering"),
        ("/api/tracks?search=a%00", "search"),
        ("/api/tracks?artist_name=%00", "artist_name"),
        ("/api/tracks?artist_name=%ff", "artist_name"),
        ("/api/tracks?titel=x", "titel"),
        ("/api/uploads?status=empty", "status"),
        ("/api/uploads?track_id=5", "track_id"),
        ("/api/uploads?policy=%00", "policy"),
        ("/api/uploads?created_before=yesterday", "created_before"),
        ("/api/uploads?created_after=0000-01-01T00:00:00Z", "created_after"),
        ("/api/uploads?limit=1&limit=2", "limit"),
        ("/api/admin/reconciliations?limit=-1", "limit"),
        (&format!("/api/admin/reconciliations/{run}/findings?kind=odd"), "kind"),
        (&format!("/api/tracks/{run}/file?redirect=maybe"), "redirect"),
    ] {
        server.get(path).await.blames(field);
    }
    server.stop().await;
}

#[tokio::test]
async fn every_invalid_field_of_a_run_is_named() {
    let server = Server::start().await;
    let path = "/api/admin/reconciliations";
    for (field, body) in [
        ("mode", json!({})),
        ("mode", json!({"mode": "full"})),
        ("mode", json!({"mode": 1})),
        ("policy", json!({"mode": "audit", "policy": "none"})),
        ("dry_run", json!({"mode": "audit", "dry_run": "no"})),
        ("x", json!({"mode": "audit", "x": 1})),
        ("accept_damage", json!({"mode": "audit", "accept_damage": -1})),
        ("adopt_bucket", json!({"mode": "audit", "adopt_bucket": 1})),
    ] {
        server.send("POST", path, body).await.blames(field);
    }
    for force in [true, false] {
        let gone = server.send("POST", path, json!({"mode": "audit", "force": force})).await;
        gone.blames("force");
        let sentence = gone.json()["errors"]["force"][0].to_string();
        assert!(sentence.contains("accept_damage") && sentence.contains("adopt_bucket"));
    }
    let found = server.send("POST", &format!("{path}?wait=soon"), json!({"mode": "audit"})).await;
    found.blames("wait");
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_path_is_404_and_an_unknown_method_405_with_allow() {
    let server = Server::start().await;
    for path in
        ["/", "/nowhere", "/api", "/api/tracksx", "/api/tracks/x/y", "/api/schema/swagger-ui/x"]
    {
        server.get(path).await.is_problem(404, "not-found");
    }
    for (method, path, allow) in [
        ("PATCH", "/api/tracks", "GET, HEAD, POST"),
        ("POST", &*format!("/api/tracks/{NOBODY}"), "GET, HEAD, PUT, PATCH, DELETE"),
        ("GET", &*format!("/api/tracks/{NOBODY}/upload/a.mp3"), "POST, PUT"),
        ("DELETE", "/healthz", "GET, HEAD"),
        ("BREW", "/api/uploads", "GET, HEAD, POST"),
    ] {
        let found = fetch(server.request(method, path)).await;
        found.is_problem(405, "method-not-allowed");
        assert_eq!(found.header("allow"), allow);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_path_as_filename_is_refused_in_every_encoding() {
    let server = Server::start().await;
    let track = server.track().await;
    for name in ["..%2Fa.mp3", "x/a.mp3", "a%5Cb.mp3", "a%00.mp3", "%ff.mp3", "a%0a.mp3", "a.exe"] {
        let request = server.request("PUT", &format!("/api/tracks/{track}/upload/{name}"));
        fetch(request.body(crate::support::mp3(100, 1))).await.blames("filename");
    }
    let request = server.request("PUT", &format!("/api/tracks/{track}/upload/a.mp3?policy=%00"));
    fetch(request.body("ID3")).await.blames("policy");
    let request = server.request("PUT", &format!("/api/tracks/{track}/upload/a.mp3?policy=none"));
    fetch(request.body("ID3")).await.blames("policy");
    assert_eq!(server.store.keys(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test]
async fn a_request_id_is_kept_if_it_is_safe_to_log_and_generated_otherwise() {
    let server = Server::start().await;
    let sent = fetch(server.request("GET", "/healthz").header("x-request-id", "mine-1")).await;
    assert_eq!(sent.header("x-request-id"), "mine-1");
    let long = "x".repeat(1000);
    let found = fetch(server.request("GET", "/nowhere").header("x-request-id", long)).await;
    found.is_problem(404, "not-found");
    assert_eq!(found.header("x-request-id").len(), 36);
    let one = server.get("/healthz").await.header("x-request-id").to_owned();
    assert_ne!(one, server.get("/healthz").await.header("x-request-id"));
    server.stop().await;
}

#[tokio::test]
async fn every_path_works_with_a_trailing_slash() {
    let server = Server::start().await;
    let track = server.track().await;
    for path in ["/healthz/", "/api/tracks/", "/api/uploads/?limit=1", "/api/schema/"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    assert_eq!(server.get(&format!("/api/tracks/{track}/")).await.status, 200);
    let found = fetch(server.request("POST", &format!("/api/tracks/{track}/presigned-url/"))).await;
    assert_eq!(found.status, 201);
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_stalls_is_408() {
    let server = Server::with(Duration::from_millis(300)).await;
    let track = server.track().await;
    for (line, kind) in [
        ("POST /api/tracks".to_owned(), "application/json"),
        (format!("PUT /api/tracks/{track}/upload/a.mp3"), "audio/mpeg"),
        (format!("PUT /api/tracks/{track}/upload/a.mp3"), "multipart/form-data; boundary=x"),
    ] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let head = format!(
            "{line} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: 1000\r\n\r\n--x"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        let read = socket.read_to_string(&mut text);
        let read = tokio::time::timeout(Duration::from_secs(10), read).await;
        read.unwrap().unwrap();
        assert!(text.starts_with("HTTP/1.1 408 "), "{line}: {text}");
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let problem: Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["type"], "/problems/request-timeout");
    }
    assert_eq!(server.store.keys(), Vec::<String>::new());
    server.stop().await;
}
