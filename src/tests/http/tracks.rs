//! Tracks: created, listed, changed and deleted.

use serde_json::{Value, json};

use super::kit::{Server, fetch};

#[tokio::test]
async fn a_new_track_is_empty_and_has_exactly_the_documented_fields() {
    let server = Server::start().await;
    let body = json!({"title": " Só ", "artist_name": "A", "release_date": "0001-01-01"});
    let made = server.send("POST", "/api/tracks", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let track = made.json();
    let path = format!("/api/tracks/{}", track["id"].as_str().unwrap());
    assert_eq!(made.header("location"), path);
    assert_eq!(server.get(&path).await.json(), track);
    let mut fields: Vec<_> = track.as_object().unwrap().keys().cloned().collect();
    fields.sort();
    assert_eq!(
        fields,
        [
            "artist_name",
            "created_at",
            "file",
            "id",
            "release_date",
            "status",
            "title",
            "updated_at",
            "upload"
        ]
    );
    assert_eq!(track["title"], " Só ");
    assert_eq!((&track["status"], &track["file"]), (&json!("empty"), &Value::Null));
    assert!(track["created_at"].as_str().unwrap().ends_with('Z'));
    server.stop().await;
}

#[tokio::test]
async fn put_replaces_all_fields_and_patch_only_the_given_ones() {
    let server = Server::start().await;
    let path = format!("/api/tracks/{}", server.track().await);
    let body = json!({"title": "t", "artist_name": "a", "release_date": "2026-01-31"});
    assert_eq!(server.send("PUT", &path, body).await.json()["release_date"], "2026-01-31");
    let patched = server.send("PATCH", &path, json!({"title": "u"})).await.json();
    assert_eq!((&patched["title"], &patched["release_date"]), (&json!("u"), &json!("2026-01-31")));
    let patched = server.send("PATCH", &path, json!({"release_date": null})).await.json();
    assert_eq!((&patched["title"], &patched["release_date"]), (&json!("u"), &Value::Null));
    let body = json!({"title": "t", "artist_name": "a", "release_date": "2026-01-31"});
    server.send("PUT", &path, body).await;
    let replaced = server.send("PUT", &path, json!({"title": "t", "artist_name": "a"})).await;
    assert_eq!(replaced.json()["release_date"], Value::Null);
    server.stop().await;
}

#[tokio::test]
async fn a_deleted_track_is_gone_and_its_upload_is_cancelled() {
    let server = Server::start().await;
    let track = server.track().await;
    let path = format!("/api/tracks/{track}");
    let signed = fetch(server.request("POST", &format!("{path}/presigned-url"))).await.json();
    let upload = format!("/api/uploads/{}", signed["upload"]["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.json()["status"], "pending");
    server.get(&format!("{path}/file")).await.is_problem(409, "file-pending");
    let gone = fetch(server.request("DELETE", &path)).await;
    assert_eq!((gone.status.as_u16(), gone.text.as_str()), (204, ""));
    server.get(&path).await.is_problem(404, "not-found");
    fetch(server.request("DELETE", &path)).await.is_problem(404, "not-found");
    assert_eq!(server.get(&upload).await.json()["status"], "cancelled");
    server.stop().await;
}

#[tokio::test]
async fn a_list_can_be_paged_to_its_end_in_every_order() {
    let server = Server::start().await;
    for (title, date) in [("b", Some("2026-01-01")), ("A", None), ("c", Some("2025-01-01"))] {
        let body = json!({"title": title, "artist_name": "x", "release_date": date});
        assert_eq!(server.send("POST", "/api/tracks", body).await.status, 201);
    }
    for (ordering, titles) in [
        ("", ["c", "A", "b"]),
        ("&ordering=created_at", ["b", "A", "c"]),
        ("&ordering=title", ["A", "b", "c"]),
        ("&ordering=-title", ["c", "b", "A"]),
        ("&ordering=release_date", ["c", "b", "A"]),
    ] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = server.get(&format!("/api/tracks?limit=1{ordering}{cursor}")).await;
            assert_eq!(page.status, 200, "{page:?}");
            let page = page.json();
            for track in page["items"].as_array().unwrap() {
                seen.push(track["title"].as_str().unwrap().to_owned());
            }
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, titles, "{ordering}");
    }
    let found = server.get("/api/tracks?search=B").await.json();
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1));
    let found = server.get("/api/tracks?status=empty&artist_name=x&search=").await.json();
    assert_eq!(found["items"].as_array().map(Vec::len), Some(3));
    server.stop().await;
}
