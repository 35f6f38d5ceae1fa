//! Uploads: created, confirmed, renewed and deleted.

use bytes::Bytes;
use serde_json::{Value, json};
use upload_coordinator::storage::{ObjectStore as _, PutOptions};

use super::kit::{Server, fetch};
use crate::support::mp3;

/// Puts the file into the store, as the client's PUT would.
async fn put(server: &Server, upload: &Value, bytes: Vec<u8>) {
    let key = upload["key"].as_str().unwrap();
    let stored = server.store.put(key, Bytes::from(bytes), &PutOptions::default()).await;
    stored.unwrap();
}

#[tokio::test]
async fn an_upload_goes_from_created_to_uploaded() {
    let server = Server::start().await;
    let body = json!({"filename": "a.mp3", "content_type": "audio/mpeg", "size": 100,
        "metadata": {"source": "phone"}, "strategy": "auto", "expires_in": 60});
    let made = server.send("POST", "/api/uploads", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("cache-control"), "no-store");
    let upload = made.json();
    let path = format!("/api/uploads/{}", upload["id"].as_str().unwrap());
    assert_eq!(made.header("location"), path);
    let mut fields: Vec<_> = upload.as_object().unwrap().keys().cloned().collect();
    fields.sort();
    assert_eq!(
        fields,
        [
            "annotations",
            "attach_to",
            "checksum",
            "confirmed_by",
            "content_type",
            "created_at",
            "detail",
            "etag",
            "expires_at",
            "filename",
            "id",
            "key",
            "late",
            "metadata",
            "policy",
            "reason",
            "request",
            "size",
            "status",
            "store",
            "strategy",
            "track_id",
            "updated_at",
            "uploaded_at",
            "version_id"
        ]
    );
    let request = &upload["request"];
    assert_eq!((&request["method"], &upload["strategy"]), (&json!("PUT"), &json!("put")));
    assert_eq!(request["headers"]["content-type"], "audio/mpeg");
    assert!(request["headers"].get("content-length").is_none() && request.get("fields").is_none());

    fetch(server.request("POST", &format!("{path}/confirm"))).await.is_problem(409, "not-arrived");
    put(&server, &upload, mp3(100, 1)).await;
    let confirmed = fetch(server.request("POST", &format!("{path}/confirm"))).await;
    assert_eq!(confirmed.status, 200, "{confirmed:?}");
    let confirmed = confirmed.json();
    assert_eq!(confirmed["status"], "uploaded");
    assert_eq!(confirmed["confirmed_by"], "confirm");
    assert!(confirmed["etag"].is_string() && confirmed["uploaded_at"].is_string());
    assert!(confirmed.get("request").is_none());

    fetch(server.request("POST", &format!("{path}/presign")))
        .await
        .is_problem(409, "state-conflict");
    assert_eq!(fetch(server.request("DELETE", &path)).await.status, 204);
    assert_eq!(fetch(server.request("DELETE", &path)).await.status, 204);
    let gone = server.get(&path).await.json();
    assert_eq!((&gone["status"], &gone["reason"]), (&json!("removed"), &json!("deleted")));
    server.stop().await;
}

#[tokio::test]
async fn a_renewed_upload_keeps_its_id_and_key_and_its_response_is_not_cached() {
    let server = Server::start().await;
    let made = server.send("POST", "/api/uploads", json!({"filename": "a.mp3"})).await.json();
    let path = format!("/api/uploads/{}/presign", made["id"].as_str().unwrap());
    let renewed = server.send("POST", &path, json!({"expires_in": 7200})).await;
    assert_eq!(renewed.status, 200, "{renewed:?}");
    assert_eq!(renewed.header("cache-control"), "no-store");
    let renewed = renewed.json();
    assert_eq!((&renewed["id"], &renewed["key"]), (&made["id"], &made["key"]));
    assert_ne!(renewed["expires_at"], made["expires_at"]);
    assert!(renewed["request"]["url"].is_string());
    server.send("POST", &path, json!({"expires_in": 0})).await.blames("expires_in");
    server.stop().await;
}

#[tokio::test]
async fn uploads_are_listed_newest_first_and_filtered() {
    let server = Server::start().await;
    let track = server.track().await;
    for body in [json!({"filename": "a.mp3"}), json!({"filename": "b.mp3", "track_id": track})] {
        assert_eq!(server.send("POST", "/api/uploads", body).await.status, 201);
    }
    let names = async |query: &str| {
        let page = server.get(&format!("/api/uploads?{query}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        let items = page["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|item| item["filename"].as_str().unwrap_or("").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["b.mp3", "a.mp3"]);
    assert_eq!(names(&format!("track_id={track}")).await, ["b.mp3"]);
    assert_eq!(names("status=uploaded").await, Vec::<String>::new());
    assert_eq!(names("policy=tracks&created_after=2020-01-01T00:00:00%2B00:00").await.len(), 2);
    assert_eq!(names("created_before=2020-01-01T00:00:00Z").await.len(), 0);
    server.stop().await;
}

#[tokio::test]
async fn an_empty_body_or_object_presigns_a_bare_url() {
    let server = Server::start().await;
    let track = server.track().await;
    let path = format!("/api/tracks/{track}/presigned-url");
    for request in [server.request("POST", &path), server.request("POST", &path).json(&json!({}))] {
        let signed = fetch(request).await;
        assert_eq!(signed.status, 201, "{signed:?}");
        assert_eq!(signed.header("cache-control"), "no-store");
        let signed = signed.json();
        assert_eq!((&signed["method"], &signed["headers"]), (&json!("PUT"), &json!({})));
        assert_eq!(signed["upload"]["track_id"], track);
        assert!(signed["url"].as_str().unwrap().contains("X-Amz-SignedHeaders=host&"));
    }
    server.send("POST", &path, json!({"strategy": "put"})).await.blames("strategy");
    server.stop().await;
}
