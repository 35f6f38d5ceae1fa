//! `FilePond`'s `server` URL. `scripts/check-clients` tests the package itself.

use std::time::Duration;

use chrono::TimeDelta;
use reqwest::multipart::{Form, Part};
use serde_json::json;
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::domain::PolicyName;
use upload_coordinator::http::SecurityConfig;
use upload_coordinator::http::dialects::{Dialect, family};
use upload_coordinator::storage::ObjectStore as _;

use super::kit::{Response, Server, fetch};
use crate::support::mp3;

async fn server() -> Server {
    let (policy, url_ttl) = (PolicyName::default(), TimeDelta::minutes(15));
    let filepond = family("filepond", Dialect { policy, url_ttl, write_once: false }).unwrap();
    let protect = |_: &_| SecurityConfig {
        dialects: vec![filepond],
        cors_origins: vec!["https://app.example.com".to_owned()],
        ..SecurityConfig::default()
    };
    Server::build(Duration::from_secs(20), Quota::default(), protect).await
}

/// The form that the package sends: metadata, and then the file, in parts of the same name.
fn form(field: &'static str, name: &'static str, bytes: Vec<u8>) -> Form {
    Form::new().text(field, "{}").part(field, Part::bytes(bytes).file_name(name))
}

async fn process(server: &Server, form: Form) -> Response {
    fetch(server.request("POST", "/filepond").multipart(form)).await
}

#[track_caller]
fn says(response: &Response, status: u16, words: &str) {
    assert_eq!(response.status.as_u16(), status, "{response:?}");
    assert!(response.header("content-type").starts_with("text/plain"), "{response:?}");
    assert!(response.text.contains(words), "{response:?}");
}

#[tokio::test]
async fn a_file_is_processed_restored_loaded_and_reverted() {
    let server = server().await;
    for field in ["filepond", "file"] {
        let bytes = mp3(9000, 1);
        let done = process(&server, form(field, "für song.mp3", bytes.clone())).await;
        says(&done, 201, "-");
        let id = done.text;
        let upload = server.get(&format!("/api/uploads/{id}")).await.json();
        assert_eq!(upload["status"], "uploaded");
        assert_eq!(upload["filename"], "für song.mp3");
        for query in ["restore", "load"] {
            let path = format!("/filepond?{query}={id}");
            let request = server.request("GET", &path).header("origin", "https://app.example.com");
            let file = request.send().await.unwrap();
            assert_eq!(file.status(), 200);
            assert_eq!(file.headers()["content-type"], "audio/mpeg");
            let name = file.headers()["content-disposition"].to_str().unwrap();
            assert!(name.contains("filename*=UTF-8''f%C3%BCr%20song.mp3"), "{name}");
            let exposed = file.headers()["access-control-expose-headers"].to_str().unwrap();
            assert!(exposed.to_ascii_lowercase().contains("content-disposition"), "{exposed}");
            assert_eq!(file.content_length(), Some(9000));
            assert_eq!(file.bytes().await.unwrap(), bytes);
        }
        let revert = fetch(server.request("DELETE", "/filepond/").body(id.clone())).await;
        assert_eq!(revert.status, 200, "{revert:?}");
        let upload = server.get(&format!("/api/uploads/{id}")).await.json();
        assert_eq!(upload["status"], "removed");
        says(&server.get(&format!("/filepond?restore={id}")).await, 404, "file");
    }
    server.stop().await;
}

#[tokio::test]
async fn requests_that_filepond_does_not_send_are_refused_with_a_sentence() {
    let server = server().await;
    let song = || Part::bytes(mp3(9000, 1)).file_name("a.mp3");
    let wrong = form("filepond", "song.mp3", b"not a song".to_vec());
    says(&process(&server, wrong).await, 400, "content");
    let none = Form::new().text("filepond", "{}");
    says(&process(&server, none).await, 400, "no part with a filename");
    let two = Form::new().part("filepond", song()).part("filepond", song());
    says(&process(&server, two).await, 400, "more than one file");
    let chunk = Form::new().text("dzchunkindex", "1").part("filepond", song());
    says(&process(&server, chunk).await, 400, "send the whole file");
    let raw = server.request("POST", "/filepond").body(mp3(9000, 1));
    says(&fetch(raw).await, 400, "form");
    says(
        &server.get("/filepond?fetch=http%3A%2F%2F127.0.0.1%2F").await,
        400,
        "does not fetch files",
    );
    says(&server.get("/filepond").await, 400, "id");
    says(&server.get("/filepond?restore=x").await, 400, "UUID");
    says(&server.get("/filepond?restore=x&other=1").await, 400, "other");
    let unknown = "0190a6f2-7b3c-7def-8123-456789abcdef";
    says(&server.get(&format!("/filepond?load={unknown}")).await, 404, "upload");
    for (id, status) in [("", 400), ("x", 400), (unknown, 404)] {
        says(&fetch(server.request("DELETE", "/filepond").body(id)).await, status, "");
    }
    let binary = fetch(server.request("DELETE", "/filepond").body(vec![255u8])).await;
    says(&binary, 400, "UTF-8");
    let pending = server.send("POST", "/api/uploads", json!({"filename": "a.mp3"})).await.json();
    let pending = pending["id"].as_str().unwrap();
    says(&server.get(&format!("/filepond?restore={pending}")).await, 409, "not arrived");
    fetch(server.request("DELETE", "/filepond").body(pending.to_owned())).await;
    let listed = server.get("/api/uploads?status=pending").await.json();
    assert_eq!(listed["items"], json!([]), "refused requests leave no upload");
    server.stop().await;
}

#[tokio::test]
async fn a_missing_or_replaced_file_is_not_restored() {
    let server = server().await;
    let id = process(&server, form("filepond", "a.mp3", mp3(9000, 1))).await.text;
    let upload = server.get(&format!("/api/uploads/{id}")).await.json();
    let key = upload["key"].as_str().unwrap();
    let options = upload_coordinator::storage::PutOptions::default();
    server.store.put(key, mp3(9000, 2).into(), &options).await.unwrap();
    says(&server.get(&format!("/filepond?restore={id}")).await, 404, "file");
    server.store.delete(key).await.unwrap();
    says(&server.get(&format!("/filepond?restore={id}")).await, 404, "file");
    server.stop().await;
}

/// A chunk, in the format of the package.
async fn chunk(server: &Server, id: &str, offset: usize, length: usize, bytes: &[u8]) -> Response {
    let request = server
        .request("PATCH", &format!("/filepond?patch={id}"))
        .header("content-type", "application/offset+octet-stream")
        .header("upload-offset", offset)
        .header("upload-length", length)
        .header("upload-name", "song.mp3");
    fetch(request.body(bytes.to_vec())).await
}

/// Creates an upload whose file follows in chunks.
async fn announce(server: &Server, length: usize) -> String {
    let metadata = Form::new().text("filepond", "{}");
    let request = server.request("POST", "/filepond").header("upload-length", length);
    let announced = fetch(request.multipart(metadata)).await;
    says(&announced, 201, "-");
    announced.text
}

#[tokio::test]
async fn a_file_in_chunks_is_complete_with_its_last_byte_and_repeated_bytes_are_skipped() {
    let server = server().await;
    let bytes = mp3(9000, 1);
    let id = announce(&server, bytes.len()).await;
    // The third chunk contains the second one again, the fourth is the first one again, and the
    // last one is empty.
    for (from, to) in [(0, 4000), (4000, 5000), (4000, 8000), (0, 4000), (8000, 9000), (9000, 9000)]
    {
        let stored = chunk(&server, &id, from, bytes.len(), &bytes[from..to]).await;
        assert_eq!(stored.status, 204, "{from}..{to}: {stored:?}");
        let head = fetch(server.request("HEAD", &format!("/filepond?patch={id}"))).await;
        assert_eq!(
            (head.status.as_u16(), head.header("upload-offset")),
            (200, stored.header("upload-offset"))
        );
    }
    let again = chunk(&server, &id, 8000, bytes.len(), &bytes[8000..]).await;
    assert_eq!(again.status, 204, "the response to the last chunk was lost: {again:?}");
    assert_eq!(server.get(&format!("/api/uploads/{id}")).await.json()["status"], "uploaded");
    let file = server.request("GET", &format!("/filepond?restore={id}")).send().await.unwrap();
    assert_eq!(file.bytes().await.unwrap(), bytes);
    server.stop().await;
}

#[tokio::test]
async fn chunks_of_a_wrong_file_or_at_a_wrong_offset_are_refused_with_a_sentence() {
    let server = server().await;
    let text = b"not a song, but long enough to be read".repeat(20);
    let id = announce(&server, text.len()).await;
    assert_eq!(chunk(&server, &id, 0, text.len(), &text[..100]).await.status, 204);
    says(&chunk(&server, &id, 200, text.len(), &text[200..]).await, 409, "offset 100");
    says(&chunk(&server, &id, 100, text.len() + 1, &text[100..]).await, 400, "declared");
    says(&chunk(&server, &id, 100, text.len(), &[&text[..], &text].concat()).await, 413, "bytes");
    says(&chunk(&server, &id, 100, text.len(), &text[100..]).await, 400, "content");
    assert_eq!(server.get(&format!("/api/uploads/{id}")).await.json()["status"], "rejected");
    says(&chunk(&server, "x", 0, 1, b"1").await, 400, "UUID");
    let unknown = "0190a6f2-7b3c-7def-8123-456789abcdef";
    says(&chunk(&server, unknown, 0, 1, b"1").await, 404, "upload");
    for length in ["0", "-1", "x"] {
        let request = server.request("POST", "/filepond").header("upload-length", length);
        says(&fetch(request.multipart(Form::new().text("filepond", "{}"))).await, 400, "");
    }
    let open = announce(&server, 9000).await;
    assert_eq!(chunk(&server, &open, 0, 9000, &mp3(9000, 1)[..1000]).await.status, 204);
    assert_eq!(fetch(server.request("DELETE", "/filepond").body(open.clone())).await.status, 200);
    assert_eq!(server.get(&format!("/api/uploads/{open}")).await.json()["status"], "cancelled");
    server.stop().await;
}
