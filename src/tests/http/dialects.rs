//! Dialects: the wire formats of other clients. `scripts/check-clients` tests the clients. These
//! tests send requests that the clients do not send.

use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::domain::PolicyName;
use upload_coordinator::http::SecurityConfig;
use upload_coordinator::http::dialects::{Dialect, family};
use upload_coordinator::storage::{ObjectStore as _, PartIntegrity, PutOptions};

use super::kit::{Response, Server, fetch};
use crate::support::mp3;

const MIB: usize = 1 << 20;

async fn server() -> Server {
    let dialects = ["activestorage", "companion", "form", "s3ff"].map(|name| {
        let (policy, url_ttl) = (PolicyName::default(), TimeDelta::minutes(15));
        family(name, Dialect { policy, url_ttl, write_once: false }).unwrap()
    });
    let protect = |_: &_| SecurityConfig {
        dialects: dialects.to_vec(),
        cors_origins: vec!["https://app.example.com".to_owned()],
        ..SecurityConfig::default()
    };
    Server::build(Duration::from_secs(20), Quota::default(), protect).await
}

async fn upload(server: &Server, id: &str) -> Value {
    server.get(&format!("/api/uploads/{id}")).await.json()
}

/// Creates the multipart upload of a client that divides the file. Returns its path, its id and its
/// key.
async fn begin(server: &Server) -> (String, String, String) {
    let body = json!({"filename": "a.mp3", "type": "audio/mpeg", "metadata": {"name": "für"}});
    let made = server.send("POST", "/companion/s3/multipart", body).await;
    assert_eq!(made.status, 200, "{made:?}");
    let (made, member) =
        (made.json(), |made: &Value, name: &str| made[name].as_str().unwrap().to_owned());
    let (id, key) = (member(&made, "uploadId"), member(&made, "key"));
    (format!("/companion/s3/multipart/{id}"), id, key)
}

/// Sends parts as the client would, and returns the client's list of them.
async fn send_parts(server: &Server, key: &str, parts: &[Vec<u8>]) -> Vec<Value> {
    let (open, _) = server.store.list_multiparts("", None).await.unwrap();
    let id = &open.iter().find(|open| open.key == key).unwrap().upload_id;
    let mut sent = Vec::new();
    for (number, bytes) in (1..).zip(parts) {
        let bytes = Bytes::from(bytes.clone());
        let part = server
            .store
            .upload_part(key, id, number, bytes, PartIntegrity::Signature)
            .await
            .unwrap();
        sent.push(json!({"PartNumber": number, "ETag": format!("\"{}\"", part.etag)}));
    }
    sent
}

#[track_caller]
fn is_error(response: &Response, status: u16, words: &str) {
    assert_eq!(response.status.as_u16(), status, "{response:?}");
    let body = response.json();
    assert!(body["error"].is_string(), "{response:?}");
    assert!(body["message"].as_str().unwrap().contains(words), "{response:?}");
}

#[tokio::test]
async fn only_parts_that_the_client_lists_and_the_store_has_become_a_file() {
    let server = server().await;
    let (path, id, key) = begin(&server).await;
    let parts = [mp3(5 * MIB, 1), mp3(5 * MIB, 2), mp3(9000, 3)];
    let sent = send_parts(&server, &key, &parts).await;
    let listed = server.get(&path).await.json();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert_eq!(listed[0]["ETag"], sent[0]["ETag"]);

    let complete = format!("{path}/complete");
    let without = |at: usize| -> Vec<Value> {
        sent.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, part)| part.clone()).collect()
    };
    let refused = server.send("POST", &complete, json!({"parts": without(1)})).await;
    is_error(&refused, 409, "missing parts: 2");
    let mut other = sent.clone();
    other[2]["ETag"] = json!("\"another\"");
    is_error(
        &server.send("POST", &complete, json!({"parts": other})).await,
        409,
        "missing parts: 3",
    );
    is_error(&server.send("POST", &complete, json!({"parts": []})).await, 409, "missing parts: 1");
    // The native route does not know which part is the last one.
    let native = server.send("POST", &format!("/api/uploads/{id}/complete"), json!({})).await;
    native.blames("parts");
    assert_eq!(upload(&server, &id).await["status"], "pending");

    let done = server.send("POST", &complete, json!({"parts": sent})).await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(done.json()["key"], key.as_str());
    assert_eq!(done.json()["location"], format!("/api/uploads/{id}/file"));
    let uploaded = upload(&server, &id).await;
    let size: usize = parts.iter().map(Vec::len).sum();
    assert_eq!((&uploaded["status"], &uploaded["size"]), (&json!("uploaded"), &json!(size)));
    // The response was lost, so the client repeats the request.
    let again = server.send("POST", &complete, json!({"parts": sent})).await;
    assert_eq!(again.status, 200, "{again:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_file_that_is_rejected_is_an_error_of_the_completion() {
    let server = server().await;
    let (path, id, key) = begin(&server).await;
    let sent = send_parts(&server, &key, &[b"not a song".to_vec()]).await;
    let refused = server.send("POST", &format!("{path}/complete"), json!({"parts": sent})).await;
    is_error(&refused, 400, "file: ");
    assert_eq!(upload(&server, &id).await["status"], "rejected");
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_signs_each_request_names_only_its_own_multipart_upload() {
    let server = server().await;
    let sign = async |body: Value| server.send("POST", "/companion/sign", body).await;
    let opening = sign(json!({"method": "POST", "key": "1-song.mp3"})).await;
    assert_eq!(opening.status, 200, "{opening:?}");
    let key = opening.json()["key"].as_str().unwrap().to_owned();
    let id = key.rsplit('/').next().unwrap().to_owned();
    assert!(opening.json()["url"].as_str().unwrap().contains("uploads"), "{opening:?}");
    let part = |opened: &str, number: i64| json!({"method": "PUT", "key": key, "uploadId": opened, "partNumber": number});
    is_error(&sign(part("made-up", 1)).await, 409, "");
    is_error(&sign(part("", 1)).await, 400, "uploadId");
    is_error(&sign(part("ü", 1)).await, 400, "uploadId");

    // The client begins the multipart upload at the store with the signed request. The service
    // learns the store's id of it only from a later request.
    let opened = server.store.create_multipart(&key, &PutOptions::default()).await.unwrap();
    let elsewhere =
        server.store.create_multipart("tracks/0/x", &PutOptions::default()).await.unwrap();
    is_error(&sign(part(&elsewhere, 1)).await, 409, "");
    assert_eq!(sign(part(&opened, 1)).await.status, 200);
    is_error(&sign(part(&elsewhere, 1)).await, 400, "another id");
    is_error(&sign(part(&opened, 0)).await, 400, "partNumber");
    is_error(&sign(part(&opened, 10_001)).await, 400, "partNumber");
    for method in ["GET", "POST", "DELETE"] {
        let signed = sign(json!({"method": method, "key": key, "uploadId": opened})).await;
        assert_eq!(signed.status, 200, "{signed:?}");
        assert!(signed.json()["url"].as_str().unwrap().contains("uploadId"), "{signed:?}");
    }
    for body in [
        json!({"method": "DELETE", "key": key}),
        json!({"method": "GET", "key": key}),
        json!({"method": "PUT", "key": key, "uploadId": opened}),
        json!({"method": "HEAD", "key": key, "uploadId": opened}),
    ] {
        is_error(&sign(body).await, 400, "method");
    }
    let stranger = json!({"method": "GET", "key": "tracks/0/not-an-id", "uploadId": opened});
    is_error(&sign(stranger).await, 400, "key");
    assert_eq!(upload(&server, &id).await["status"], "pending");
    server.stop().await;
}

#[tokio::test]
async fn each_client_receives_errors_and_cors_headers_in_its_own_format() {
    let server = server().await;
    is_error(&server.get("/companion/s3/params?type=audio%2Fmpeg").await, 400, "filename");
    is_error(&server.send("POST", "/companion/s3/sts", json!({})).await, 404, "");
    is_error(&server.send("POST", "/s3ff/upload-initialize/", json!({})).await, 400, "");
    let blob = json!({"blob": {"filename": "a.mp3", "byte_size": 10, "checksum": "no base64"}});
    let refused = server.send("POST", "/activestorage/direct_uploads", blob).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.json()["error"].as_str().unwrap().contains("checksum"), "{refused:?}");

    for (path, requested) in [
        ("/companion/s3/multipart", "uppy-auth-token,content-type"),
        ("/activestorage/direct_uploads", "x-csrf-token,x-requested-with"),
        ("/form", "cache-control,x-requested-with"),
    ] {
        let preflight = server
            .request("OPTIONS", path)
            .header("origin", "https://app.example.com")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", format!("{requested},x-unknown"));
        let preflight = fetch(preflight).await;
        assert_eq!(preflight.status, 200, "{preflight:?}");
        let allowed = preflight.header("access-control-allow-headers").to_ascii_lowercase();
        for header in requested.split(',') {
            assert!(allowed.contains(header), "{path}: {header} is not in {allowed}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_form_with_a_file_is_one_upload_and_a_refused_one_leaves_none_pending() {
    let server = server().await;
    let submit =
        async |name: &'static str, bytes: Vec<u8>, fields: &[(&'static str, &'static str)]| {
            let mut form = Form::new();
            for (name, value) in fields {
                form = form.text(*name, *value);
            }
            let form = form.part("file", Part::bytes(bytes).file_name(name));
            fetch(server.request("POST", "/form").multipart(form)).await
        };
    let sent = submit("für song.mp3", mp3(9000, 1), &[]).await;
    assert_eq!(sent.status, 201, "{sent:?}");
    let upload = sent.json();
    assert_eq!(sent.header("location"), format!("/api/uploads/{}", upload["id"].as_str().unwrap()));
    assert_eq!(
        (&upload["status"], &upload["filename"]),
        (&json!("uploaded"), &json!("für song.mp3"))
    );

    let is_refused = |response: Response, words: &str| {
        assert_eq!(response.status, 400, "{response:?}");
        assert!(response.json()["error"].as_str().unwrap().contains(words), "{response:?}");
    };
    is_refused(submit("song.mp3", b"not a song".to_vec(), &[]).await, "file: ");
    let chunk = [("dzchunkindex", "1"), ("dztotalchunkcount", "3")];
    is_refused(submit("song.mp3", mp3(9000, 1), &chunk).await, "send the whole file");
    is_refused(fetch(server.request("POST", "/form").body(mp3(9000, 1))).await, "a filename");
    let listed = server.get("/api/uploads?status=pending").await.json();
    assert_eq!(listed["items"], json!([]));
    server.stop().await;
}
