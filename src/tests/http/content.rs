//! Files of existing uploads, sent to and served by the service.

use futures_util::stream;
use reqwest::Body;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::http::SecurityConfig;
use upload_coordinator::storage::ObjectStore as _;
use upload_coordinator::storage::memory::Operation;

use super::kit::{Response, Server, fetch};
use crate::support::wait::wait_for;
use crate::support::{PNG, mp3};

/// Creates an upload of `a.mp3` with these members, and returns it with its path.
async fn create(server: &Server, members: Value) -> (Value, String) {
    let mut body = json!({"filename": "a.mp3"});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let made = server.send("POST", "/api/uploads", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let path = format!("/api/uploads/{}", made["id"].as_str().unwrap());
    (made, path)
}

async fn send(server: &Server, path: &str, bytes: impl Into<Body>) -> Response {
    fetch(server.request("PUT", &format!("{path}/content")).body(bytes)).await
}

async fn status(server: &Server, path: &str) -> String {
    server.get(path).await.json()["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_direct_upload_names_its_route_and_is_served_without_a_track() {
    let server = Server::start().await;
    let members = json!({"strategy": "direct", "content_type": "audio/mpeg", "size": 1000,
        "metadata": {"source": "phone"}});
    let (made, path) = create(&server, members).await;
    let request = &made["request"];
    assert_eq!(made["strategy"], "direct");
    assert_eq!(request["method"], "PUT");
    assert_eq!(request["url"], format!("{path}/content"));
    assert_eq!(request["headers"], json!({"content-type": "audio/mpeg"}));
    assert_eq!(request["expires_at"], made["expires_at"]);
    server.get(&format!("{path}/file")).await.is_problem(409, "file-pending");
    let again = server.send("POST", &format!("{path}/presign"), json!({})).await;
    assert_eq!((again.status.as_u16(), &again.json()["request"]["url"]), (200, &request["url"]));

    let stored = send(&server, &path, mp3(1000, 1)).await;
    assert_eq!(stored.status, 200, "{stored:?}");
    let stored = stored.json();
    assert_eq!(
        (&stored["status"], &stored["confirmed_by"]),
        (&json!("uploaded"), &json!("direct"))
    );
    let key = stored["key"].as_str().unwrap();
    let meta = server.store.head(key).await.unwrap().unwrap();
    assert_eq!(meta.metadata, [("source".to_owned(), "phone".to_owned())].into());

    let file = server.get(&format!("{path}/file")).await;
    assert_eq!((file.status.as_u16(), file.header("cache-control")), (307, "no-store"));
    assert!(file.header("location").contains("X-Amz-Signature="));
    let file = server.get(&format!("{path}/file?redirect=false")).await;
    assert_eq!((file.status.as_u16(), file.header("cache-control")), (200, "no-store"));
    server.get(&format!("{path}/file?redirect=2")).await.blames("redirect");
    send(&server, &path, mp3(1000, 1)).await.is_problem(409, "state-conflict");
    server.send("DELETE", &path, json!({})).await;
    server.get(&format!("{path}/file")).await.is_problem(404, "not-found");
    server.stop().await;
}

#[tokio::test]
async fn the_url_of_a_direct_upload_is_absolute_with_a_public_url() {
    let public_url = "https://uploads.example.com/api-of-ours".to_owned();
    let protect = |_: &_| SecurityConfig { public_url, ..SecurityConfig::default() };
    let timeout = std::time::Duration::from_secs(20);
    let server = Server::build(timeout, Quota::default(), protect).await;
    let (made, path) = create(&server, json!({"strategy": "direct"})).await;
    let url = format!("https://uploads.example.com/api-of-ours{path}/content");
    assert_eq!(made["request"]["url"], url);
    server.stop().await;
}

#[tokio::test]
async fn a_file_that_is_not_the_declared_one_is_refused_and_the_right_one_is_taken() {
    let server = Server::start().await;
    let sum = upload_coordinator::domain::Checksum::of(
        upload_coordinator::domain::checksum::Algorithm::Sha256,
        &mp3(1000, 1),
    );
    let checksum = json!({"algorithm": "sha256", "value": sum.value()});
    for strategy in ["put", "post", "direct"] {
        let members = json!({"strategy": strategy, "size": 1000, "checksum": checksum});
        let (_, path) = create(&server, members).await;
        send(&server, &path, mp3(999, 1)).await.blames("file");
        let short = stream::iter([Ok::<_, std::io::Error>(mp3(999, 1))]);
        send(&server, &path, Body::wrap_stream(short)).await.blames("file");
        send(&server, &path, mp3(1000, 2)).await.blames("file");
        send(&server, &path, [PNG, &[0; 960]].concat()).await.blames("file");
        let typed = server.request("PUT", &format!("{path}/content")).body(mp3(1000, 1));
        let typed = fetch(typed.header("content-type", "image/png")).await;
        typed.is_problem(415, "unsupported-media-type");
        assert_eq!(status(&server, &path).await, "pending", "{strategy}");
        server.get(&format!("{path}/file")).await.is_problem(409, "file-pending");
        let form = Form::new().text("title", "x").part("file", Part::bytes(mp3(1000, 1)));
        let request = server.request("POST", &format!("{path}/content"));
        let stored = fetch(request.multipart(form)).await;
        assert_eq!(stored.status, 200, "{stored:?}");
        assert_eq!(stored.json()["checksum"], checksum);
        assert_eq!(stored.json()["strategy"], strategy);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_part_of_a_file_is_refused_and_the_upload_still_waits() {
    let server = Server::start().await;
    let (_, path) = create(&server, json!({"strategy": "direct"})).await;
    for (name, value) in [
        ("Content-Range", "bytes 0-999/1668010"),
        ("Upload-Complete", "?0"),
        ("Upload-Offset", "0"),
    ] {
        let request = server.request("PUT", &format!("{path}/content")).header(name, value);
        fetch(request.body(mp3(1000, 1))).await.blames(name);
    }
    let chunk = || Part::bytes(mp3(1000, 1)).file_name("a.mp3");
    let large = Part::bytes(mp3(11 << 20, 1)).file_name("a.mp3");
    for form in [
        Form::new().text("dzchunkindex", "1").part("file", chunk()),
        Form::new().part("file", chunk()).text("dztotalchunkcount", "2"),
        Form::new().part("file", large).text("dztotalchunkcount", "2"),
    ] {
        let request = server.request("POST", &format!("{path}/content")).multipart(form);
        fetch(request).await.is_problem(400, "validation");
    }
    assert_eq!(status(&server, &path).await, "pending");
    assert_eq!(server.store.keys(), Vec::<String>::new());
    assert_eq!(send(&server, &path, mp3(1000, 1)).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn uploads_in_parts_and_ended_uploads_take_no_file() {
    let server = Server::start().await;
    let parts = json!({"strategy": "multipart", "size": 6 << 20});
    let (_, path) = create(&server, parts).await;
    send(&server, &path, mp3(6 << 20, 1)).await.blames("id");
    server.send("DELETE", &path, json!({})).await;
    send(&server, &path, mp3(6 << 20, 1)).await.blames("id");
    let (_, path) = create(&server, json!({})).await;
    server.send("DELETE", &path, json!({})).await;
    send(&server, &path, mp3(1000, 1)).await.is_problem(409, "state-conflict");
    server.get(&format!("{path}/file")).await.is_problem(404, "not-found");
    let large = create(&server, json!({})).await.1;
    send(&server, &large, mp3((16 << 20) + 1, 1)).await.blames("file");
    let query = server.request("PUT", &format!("{large}/content?policy=tracks"));
    fetch(query.body(mp3(1000, 1))).await.blames("policy");
    assert_eq!(server.store.keys(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test]
async fn after_a_broken_connection_no_parts_are_left_and_the_file_can_be_sent_again() {
    let server = Server::start().await;
    for strategy in ["put", "direct"] {
        let (_, path) = create(&server, json!({"strategy": strategy})).await;
        let before = server.store.calls(Operation::UploadPart);
        let aborted = server.store.calls(Operation::AbortMultipart);
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let head = format!(
            "PUT {path}/content HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            16 << 20
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&mp3(7 << 20, 1)).await.unwrap();
        wait_for("a part", async || {
            (server.store.calls(Operation::UploadPart) > before).then_some(())
        })
        .await;
        drop(socket);
        wait_for("the abort", async || {
            (server.store.calls(Operation::AbortMultipart) > aborted).then_some(())
        })
        .await;
        assert_eq!(status(&server, &path).await, "pending", "{strategy}");
        let stored = send(&server, &path, mp3(12 << 20, 2)).await;
        assert_eq!(stored.status, 200, "{stored:?}");
        assert_eq!(stored.json()["size"], 12 << 20);
        let (open, _) = server.store.list_multiparts("", None).await.unwrap();
        assert_eq!(open, []);
    }
    server.stop().await;
}

#[tokio::test]
async fn of_two_files_for_one_direct_upload_one_is_stored_and_the_other_refused() {
    let server = Server::start().await;
    let (_, path) = create(&server, json!({"strategy": "direct"})).await;
    // The gate stops both requests just before the store writes their objects.
    let gate = server.store.hold(Operation::Put);
    let both = async {
        tokio::join!(send(&server, &path, mp3(1000, 1)), send(&server, &path, mp3(1001, 2)))
    };
    let open = async {
        gate.next_call().await;
        gate.next_call().await;
        gate.open();
    };
    let ((first, second), ()) = tokio::join!(both, open);
    let (stored, refused) = if first.status == 200 { (first, second) } else { (second, first) };
    assert_eq!(stored.status, 200, "{stored:?}");
    refused.is_problem(409, "state-conflict");
    let key = stored.json()["key"].as_str().unwrap().to_owned();
    let meta = server.store.head(&key).await.unwrap().unwrap();
    assert_eq!(stored.json()["size"], meta.size);
    assert_eq!(status(&server, &path).await, "uploaded");
    assert_eq!(server.get(&format!("{path}/file")).await.status, 307);
    server.stop().await;
}

#[tokio::test]
async fn a_lost_response_of_the_store_is_no_error() {
    let server = Server::start().await;
    for size in [1000, 12 << 20] {
        let (_, path) = create(&server, json!({"strategy": "direct"})).await;
        server.store.lose_next(Operation::Put, 1);
        server.store.lose_next(Operation::CompleteMultipart, 1);
        let stored = send(&server, &path, mp3(size, 1)).await;
        assert_eq!(stored.status, 200, "{stored:?}");
        server.store.heal();
    }
    server.stop().await;
}
