//! Direct uploads, and downloads from the store.

use futures_util::stream;
use reqwest::Body;
use reqwest::multipart::{Form, Part};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use upload_coordinator::storage::memory::Operation;

use super::kit::{Server, fetch};
use crate::support::mp3;
use crate::support::wait::wait_for;

#[tokio::test]
async fn a_raw_file_is_stored_attached_and_served_by_redirect() {
    let server = Server::start().await;
    let track = server.track().await;
    let path = format!("/api/tracks/{track}");
    server.get(&format!("{path}/file")).await.is_problem(404, "not-found");
    let request = server.request("PUT", &format!("{path}/upload/My%20S%C3%B3ng.mp3"));
    let stored = fetch(request.body(mp3(1000, 1))).await;
    assert_eq!(stored.status, 200, "{stored:?}");
    let stored = stored.json();
    assert_eq!(
        (&stored["status"], &stored["file"]),
        (&json!("uploaded"), &json!(format!("{path}/file")))
    );
    let upload = &stored["upload"];
    assert_eq!((&upload["filename"], &upload["size"]), (&json!("My Sóng.mp3"), &json!(1000)));
    assert_eq!(
        (&upload["strategy"], &upload["confirmed_by"]),
        (&json!("direct"), &json!("direct"))
    );
    assert_eq!(upload["checksum"]["algorithm"], "sha256");

    let file = server.get(&format!("{path}/file")).await;
    assert_eq!((file.status.as_u16(), file.header("cache-control")), (307, "no-store"));
    assert!(file.header("location").contains("X-Amz-Signature="));
    let file = server.get(&format!("{path}/file?redirect=false")).await;
    assert_eq!((file.status.as_u16(), file.header("cache-control")), (200, "no-store"));
    let file = file.json();
    assert!(file["url"].is_string() && file["expires_at"].is_string());
    assert_eq!(file.as_object().map(serde_json::Map::len), Some(2));
    server.stop().await;
}

#[tokio::test]
async fn a_form_can_have_other_fields_around_its_file() {
    let server = Server::start().await;
    let track = server.track().await;
    // The store receives this file in more than two parts.
    let file = Part::bytes(mp3(11 << 20, 1)).file_name("ignored.exe").mime_str("audio/mpeg");
    let form =
        Form::new().text("before", "x".repeat(1000)).part("file", file.unwrap()).text("after", "y");
    let request = server.request("POST", &format!("/api/tracks/{track}/upload/a.mp3"));
    let stored = fetch(request.multipart(form)).await;
    assert_eq!(stored.status, 200, "{stored:?}");
    assert_eq!(stored.json()["upload"]["size"], 11 << 20);
    server.stop().await;
}

#[tokio::test]
async fn a_form_without_exactly_one_file_is_refused_and_leaves_nothing() {
    let server = Server::start().await;
    let track = server.track().await;
    let path = format!("/api/tracks/{track}/upload/a.mp3");
    let none = Form::new().text("title", "x");
    fetch(server.request("POST", &path).multipart(none)).await.blames("file");
    let two =
        Form::new().part("file", Part::bytes(mp3(10, 1))).part("file", Part::bytes(mp3(10, 1)));
    fetch(server.request("POST", &path).multipart(two)).await.blames("file");
    let much = Form::new().text("x", "x".repeat(200_000)).part("file", Part::bytes(mp3(10, 1)));
    fetch(server.request("POST", &path).multipart(much)).await.is_problem(400, "bad-request");
    for kind in ["multipart/form-data", "multipart/form-data; boundary=x"] {
        let request = server.request("POST", &path).header("content-type", kind);
        fetch(request.body("nonsense")).await.is_problem(400, "bad-request");
    }
    assert_eq!(server.store.keys(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test]
async fn a_file_that_violates_a_rule_is_refused_before_it_is_received_completely() {
    let server = Server::start().await;
    let track = server.track().await;
    let path = format!("/api/tracks/{track}/upload/a.mp3");
    let large = fetch(server.request("PUT", &path).body(mp3((16 << 20) + 1, 1))).await;
    large.blames("file");
    assert_eq!(large.json()["errors"]["file"][0], "File is larger than max_size=16777216");
    let chunks = (0..20).map(|_| Ok::<_, std::io::Error>(mp3(1 << 20, 1)));
    let body = Body::wrap_stream(stream::iter(chunks));
    let large = fetch(server.request("PUT", &path).body(body)).await;
    assert_eq!(large.json()["errors"]["file"][0], "File is larger than max_size=16777216");
    fetch(server.request("PUT", &path).body("")).await.blames("file");
    fetch(server.request("PUT", &path).body("<html>")).await.blames("file");
    let request = server.request("PUT", &path).header("content-type", "image/png");
    fetch(request.body(mp3(10, 1))).await.is_problem(415, "unsupported-media-type");
    assert_eq!(server.store.keys(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_disconnects_leaves_a_cancelled_upload_and_no_parts() {
    let server = Server::start().await;
    let track = server.track().await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "PUT /api/tracks/{track}/upload/a.mp3 HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        16 << 20
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&mp3(7 << 20, 1)).await.unwrap();
    let path = format!("/api/tracks/{track}");
    wait_for("the first part", async || {
        (server.store.calls(Operation::UploadPart) > 0).then_some(())
    })
    .await;
    drop(socket);
    wait_for("the cancelled upload", async || {
        (server.get(&path).await.json()["status"] == "cancelled").then_some(())
    })
    .await;
    wait_for("the abort of the parts", async || {
        (server.store.calls(Operation::AbortMultipart) > 0).then_some(())
    })
    .await;
    server.stop().await;
}
