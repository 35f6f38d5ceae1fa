//! `PUT /up/{id}`: a client is redirected to a URL that is signed at that moment.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::kit::{Response, Server, fetch};
use crate::support::mp3;

/// Creates an upload of `a.mp3` with these members. Returns it and the path for its file.
async fn create(server: &Server, prefix: &str, members: Value) -> (Value, String) {
    let mut body = json!({"filename": "a.mp3"});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let made = server.send("POST", &format!("{prefix}/api/uploads"), body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let path = format!("{prefix}/up/{}", made["id"].as_str().unwrap());
    (made, path)
}

async fn put(server: &Server, path: &str, headers: &[(&str, &str)], size: usize) -> Response {
    let mut request = server.request("PUT", path).body(mp3(size, 1));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    fetch(request).await
}

async fn token(server: &Server) -> String {
    let made = server.send("POST", "/api/upload-tokens", json!({"policy": "tracks"})).await.json();
    crate::support::log::secret(made["token"].as_str().unwrap());
    format!("/t/{}", made["token"].as_str().unwrap())
}

#[tokio::test]
async fn a_put_is_redirected_to_a_url_that_is_signed_now() {
    let server = Server::start().await;
    for prefix in [String::new(), token(&server).await] {
        let (made, path) = create(&server, &prefix, json!({"expires_in": 1})).await;
        let found = put(&server, &path, &[], 9000).await;
        assert_eq!(found.status, 307, "{found:?}");
        assert_eq!(found.header("cache-control"), "no-store");
        let url = found.header("location");
        assert!(url.contains("X-Amz-Signature=") && url.contains("X-Amz-Expires=3600"), "{url}");
        assert!(url.contains(made["key"].as_str().unwrap()), "{url}");
        let id = made["id"].as_str().unwrap();
        let now = server.get(&format!("/api/uploads/{id}")).await.json();
        assert_ne!(
            now["expires_at"], made["expires_at"],
            "the upload waits as long as its new URL"
        );
        assert_eq!(now["status"], "pending");
    }
    assert_eq!(server.store.keys(), Vec::<String>::new(), "the body goes only to the store");
    server.stop().await;
}

#[tokio::test]
async fn a_client_must_have_sent_what_the_url_requires() {
    let server = Server::start().await;
    let declared = json!({"content_type": "audio/mpeg", "size": 9000});
    let (made, path) = create(&server, "", declared).await;
    let headers = made["request"]["headers"].as_object().unwrap();
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
    assert!(headers.len() >= 2, "{headers:?}");
    assert_eq!(put(&server, &path, &headers, 9000).await.status, 307);
    let id = made["id"].as_str().unwrap();
    let before = server.get(&format!("/api/uploads/{id}")).await.json();
    for without in 0..headers.len() {
        let mut fewer = headers.clone();
        let (name, value) = fewer.remove(without);
        put(&server, &path, &fewer, 9000).await.blames(name);
        fewer.push((name, "other"));
        let refused = put(&server, &path, &fewer, 9000).await;
        refused.blames(name);
        assert!(refused.text.contains(value), "{refused:?}");
    }
    put(&server, &path, &headers, 8999).await.blames("file");
    for (name, value) in [("Content-Range", "bytes 0-8999/20000"), ("Upload-Complete", "?0")] {
        let mut partial = headers.clone();
        partial.push((name, value));
        put(&server, &path, &partial, 9000).await.blames(name);
    }
    put(&server, &format!("{path}?a=1"), &headers, 9000).await.blames("a");
    assert_eq!(server.get(&format!("/api/uploads/{id}")).await.json(), before);
    server.stop().await;
}

#[tokio::test]
async fn only_pending_and_expired_uploads_with_a_put_are_redirected() {
    let server = Server::start().await;
    for (strategy, size) in [("multipart", 6 << 20), ("direct", 9000), ("post", 9000)] {
        let (_, path) = create(&server, "", json!({"strategy": strategy, "size": size})).await;
        let refused = put(&server, &path, &[], size).await;
        refused.blames("id");
        assert!(refused.text.contains(strategy), "{refused:?}");
    }
    let (made, path) = create(&server, "", json!({})).await;
    let of_upload = format!("/api/uploads/{}", made["id"].as_str().unwrap());
    for method in ["GET", "HEAD", "POST", "DELETE"] {
        let refused = fetch(server.request(method, &path)).await;
        assert_eq!((refused.status.as_u16(), refused.header("allow")), (405, "PUT"), "{method}");
    }
    fetch(server.request("PUT", &format!("{of_upload}/content")).body(mp3(9000, 1))).await;
    put(&server, &path, &[], 9000).await.is_problem(409, "state-conflict");
    let (made, path) = create(&server, "", json!({})).await;
    server
        .send("DELETE", &format!("/api/uploads/{}", made["id"].as_str().unwrap()), json!({}))
        .await;
    put(&server, &path, &[], 9000).await.is_problem(409, "state-conflict");
    put(&server, "/up/no-id", &[], 9000).await.is_problem(404, "not-found");
    let unknown = "/up/0190a6f2-7b3c-7def-8123-456789abcdef";
    put(&server, unknown, &[], 9000).await.is_problem(404, "not-found");
    put(&server, &format!("/t/upt_unknown{path}"), &[], 9000).await.is_problem(401, "unauthorized");
    // A token gives access only to its own uploads.
    let others = format!("{}{path}", token(&server).await);
    put(&server, &others, &[], 9000).await.is_problem(404, "not-found");
    server.stop().await;
}

/// Reads from a socket until the end of a response whose body is one line.
async fn response(socket: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !(text.contains("\r\n\r\n") && text.ends_with('\n') && !text.ends_with("\r\n")) {
        let read = tokio::time::timeout(Duration::from_secs(20), socket.read(&mut buffer)).await;
        let read = read.expect("no response").unwrap();
        assert_ne!(read, 0, "the connection ended after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    text
}

/// Sends a body for longer than the server would wait for the end of an unread body.
async fn send_slowly(socket: &mut TcpStream, pieces: usize) {
    for _ in 0..pieces {
        socket.write_all(&vec![0; 64 << 10]).await.expect("the connection was closed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_response_is_sent_before_the_body_and_a_slow_body_is_still_read() {
    let server = Server::start().await;
    let (_, path) = create(&server, "", json!({})).await;
    let pieces = 25;
    let size = pieces * (64 << 10);
    let begin = async |expect: &str| {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let head =
            format!("PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n{expect}\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        socket
    };
    let reads_first = async |expect: &str| {
        let mut socket = begin(expect).await;
        let found = response(&mut socket).await;
        let found = found.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&found);
        assert!(found.starts_with("HTTP/1.1 307 "), "{found}");
        // The client sends its body even though the response has arrived.
        send_slowly(&mut socket, pieces).await;
        assert_eq!(
            socket.read(&mut [0; 16]).await.unwrap(),
            0,
            "the connection is closed without a reset"
        );
    };
    let sends_first = async {
        let mut socket = begin("").await;
        send_slowly(&mut socket, pieces).await;
        let found = response(&mut socket).await;
        assert!(found.starts_with("HTTP/1.1 307 "), "{found}");
    };
    tokio::join!(reads_first(""), reads_first("expect: 100-continue\r\n"), sends_first);
    server.stop().await;
}
