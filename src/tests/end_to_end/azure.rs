//! The real binary with `kind = "azure"`, on Azurite. Without `TEST_S3_KIND=azurite`, these tests
//! do nothing.

use reqwest::Method;
use reqwest::header::ETAG;
use serde_json::{Value, json};

use crate::storage::servers::{Kind, Subject};
use crate::support::live::{Live, read, text};
use crate::support::mp3;

const MIB: usize = 1 << 20;

/// The service on Azurite, with small parts.
async fn live() -> Option<Live> {
    if std::env::var("TEST_S3_KIND").is_ok_and(|kind| kind == "azurite") {
        let on = Subject::server().await;
        assert_eq!(on.kind, Kind::Azurite);
        let changes = [
            ("policies.tracks.part_size", "5MiB"),
            ("policies.tracks.multipart_threshold", "6MiB"),
            ("direct_upload.part_size", "5MiB"),
            ("dialects.companion.enabled", "true"),
            ("dialects.s3ff.enabled", "true"),
        ];
        return Some(Live::serving(&on.configuration(), &changes).await);
    }
    None
}

async fn post(live: &Live, path: &str) -> (u16, Value) {
    live.send(Method::POST, path, None).await
}

#[tokio::test]
async fn a_file_is_sent_by_the_returned_request_confirmed_served_and_deleted() {
    let Some(live) = live().await else { return };
    let (track, file) = (live.track().await, mp3(70_000, 1));
    let declared = json!({"filename": "a.mp3", "content_type": "audio/mpeg", "size": 70_000});
    let request = live.presign(&track, declared).await;
    assert_eq!(request["method"], "PUT");
    assert_eq!(request["headers"]["x-ms-blob-type"], "BlockBlob", "{request}");
    let sent = live.send_bytes(&request, file.clone()).await;
    assert!(sent.status() == 201 && sent.headers().contains_key(ETAG), "{sent:?}");
    let again = live.send_bytes(&request, mp3(70_000, 2)).await.status();
    assert!(again.is_client_error(), "it is write-once: {again}");
    let id = text(&request["upload"], "id");
    let (status, upload) = post(&live, &format!("/api/uploads/{id}/confirm")).await;
    assert_eq!((status, &upload["status"]), (200, &json!("uploaded")), "{upload}");
    assert_eq!(live.file(&track).await, file);

    let gone = live.send(Method::DELETE, &format!("/api/tracks/{track}"), None).await;
    assert_eq!(gone.0, 204);
    let run = live.reconcile("incremental").await;
    assert_eq!(run["counters"]["deleted"], 1, "{run}");
    let audit = live.reconcile("audit").await;
    assert_eq!(
        (&audit["counters"]["listed"], &audit["counters"]["orphans"]),
        (&json!(1), &json!(0)),
        "{audit}"
    );
}

#[tokio::test]
async fn a_file_in_parts_and_a_direct_upload_arrive() {
    let Some(live) = live().await else { return };
    let (track, file) = (live.track().await, mp3(12 * MIB + 1, 3));
    let declared = json!({"filename": "long.mp3", "content_type": "audio/mpeg",
        "track_id": track, "size": file.len(), "metadata": {"album-id": "7"}});
    let (status, upload) = live.post("/api/uploads", declared).await;
    assert_eq!((status, &upload["strategy"]), (201, &json!("multipart")), "{upload}");
    let path = format!("/api/uploads/{}", text(&upload, "id"));
    let (_, signed) = live.post(&format!("{path}/parts"), json!({"part_numbers": [1, 2, 3]})).await;
    let parts = signed["parts"].as_array().unwrap();
    for (request, chunk) in parts.iter().zip(file.chunks(5 * MIB)).skip(1) {
        assert_eq!(live.send_bytes(request, chunk.to_vec()).await.status(), 201);
    }
    let (status, hole) = post(&live, &format!("{path}/complete")).await;
    assert_eq!((status, &hole["missing"]), (409, &json!([1])), "{hole}");
    assert_eq!(live.send_bytes(&parts[0], file[..5 * MIB].to_vec()).await.status(), 201);
    let (status, done) = post(&live, &format!("{path}/complete")).await;
    assert_eq!((status, &done["status"]), (200, &json!("uploaded")), "{done}");
    assert_eq!(live.file(&track).await, file);

    let (track, file) = (live.track().await, mp3(11 * MIB, 9));
    let url = format!("{}/api/tracks/{track}/upload/song.mp3", live.url);
    let (status, sent) = read(live.http.put(url).body(file.clone()).send().await.unwrap()).await;
    assert_eq!((status, &sent["status"]), (200, &json!("uploaded")), "{sent}");
    assert_eq!(live.file(&track).await, file);
    let audit = live.reconcile("audit").await;
    assert_eq!(
        (&audit["counters"]["listed"], &audit["counters"]["orphans"]),
        (&json!(3), &json!(0)),
        "{audit}"
    );
}

#[tokio::test]
async fn bytes_that_nobody_confirms_are_found_and_wrong_ones_rejected() {
    let Some(live) = live().await else { return };
    let (right, wrong) = (live.track().await, live.track().await);
    let declared = json!({"filename": "a.mp3", "content_type": "audio/mpeg", "size": 9000});
    for (track, bytes) in [(&right, 9000), (&wrong, 9001)] {
        let request = live.presign(track, declared.clone()).await;
        // A SAS does not limit the length, so Azurite accepts the wrong length, too.
        assert_eq!(live.send_bytes(&request, mp3(bytes, 1)).await.status(), 201);
    }
    let run = live.reconcile("incremental").await;
    assert_eq!(run["counters"]["confirmed"], 1, "{run}");
    let (_, seen) = live.get(&format!("/api/tracks/{wrong}")).await;
    assert_eq!(
        (&seen["upload"]["status"], &seen["file"]),
        (&json!("rejected"), &Value::Null),
        "{seen}"
    );
    assert_eq!(live.file(&right).await, mp3(9000, 1));
}

/// The URL of a part can write the whole object, so its bytes are compared before they are served.
#[tokio::test]
async fn an_object_that_the_url_of_a_part_replaced_is_not_served() {
    let Some(live) = live().await else { return };
    let (track, file) = (live.track().await, mp3(7 * MIB, 3));
    let declared = json!({"filename": "a.mp3", "track_id": track, "size": file.len()});
    let (_, upload) = live.post("/api/uploads", declared).await;
    let path = format!("/api/uploads/{}", text(&upload, "id"));
    let (_, signed) = live.post(&format!("{path}/parts"), json!({"part_numbers": [1, 2]})).await;
    let parts = signed["parts"].as_array().unwrap();
    for (request, chunk) in parts.iter().zip(file.chunks(5 * MIB)) {
        assert_eq!(live.send_bytes(request, chunk.to_vec()).await.status(), 201);
    }
    assert_eq!(post(&live, &format!("{path}/complete")).await.1["status"], "uploaded");
    let url = text(&parts[0], "url");
    let (before, query) = url.split_once('?').unwrap();
    let block = |p: &&str| !p.starts_with("comp=") && !p.starts_with("blockid=");
    let query: Vec<_> = query.split('&').filter(block).collect();
    let put = live.http.put(format!("{before}?{}", query.join("&")));
    let put = put.header("x-ms-blob-type", "BlockBlob").body("other").send().await.unwrap();
    assert_eq!(put.status(), 201);
    let served = live.http.get(format!("{}/api/tracks/{track}/file", live.url)).send().await;
    assert_eq!(served.unwrap().status(), 404);
    live.reconcile("incremental").await;
    let (_, seen) = live.get(&path).await;
    assert_eq!(
        (&seen["status"], &seen["reason"]),
        (&json!("rejected"), &json!("overwritten")),
        "{seen}"
    );
}

#[tokio::test]
async fn what_azure_cannot_do_is_400_with_a_sentence() {
    let Some(live) = live().await else { return };
    for (path, body) in [
        ("/api/uploads", json!({"filename": "a.mp3", "strategy": "post"})),
        ("/companion/s3/multipart", json!({"filename": "a.mp3", "type": "audio/mpeg"})),
        ("/companion/sign", json!({"method": "POST", "key": "a.mp3"})),
        (
            "/s3ff/upload-initialize/",
            json!({"field_id": "tracks", "file_name": "a.mp3", "file_size": 9000,
                "content_type": "audio/mpeg"}),
        ),
    ] {
        let (status, response) = live.post(path, body).await;
        assert_eq!(status, 400, "{path}: {response}");
        let sentences = response.to_string();
        assert!(sentences.contains("The store does not"), "{path}: {sentences}");
    }
    let (status, signed) =
        live.post("/companion/sign", json!({"method": "PUT", "key": "a.mp3"})).await;
    assert_eq!((status, &signed["headers"]["x-ms-blob-type"]), (200, &json!("BlockBlob")));
    // The Uppy client sends a whole file by PUT.
    let (status, params) = live.get("/companion/s3/params?filename=a.mp3&type=audio%2Fmpeg").await;
    assert_eq!((status, &params["method"]), (200, &json!("PUT")), "{params}");
    assert_eq!(params["headers"]["x-ms-blob-type"], "BlockBlob", "{params}");
}
