//! Attachments over HTTP.

use bytes::Bytes;
use serde_json::{Value, json};
use upload_coordinator::storage::{ObjectStore as _, PutOptions};

use super::kit::{Server, fetch};
use crate::support::mp3;

const COVER: &str = "/api/attachments/album:42:cover";

async fn create(server: &Server, body: Value) -> Value {
    let made = server.send("POST", "/api/uploads", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.json()
}

/// Puts the file into the store, as the client's PUT would, and confirms the upload.
async fn arrive(server: &Server, upload: &Value) {
    let key = upload["key"].as_str().unwrap();
    let bytes = Bytes::from(mp3(900, 1));
    server.store.put(key, bytes, &PutOptions::default()).await.unwrap();
    let path = format!("/api/uploads/{}/confirm", upload["id"].as_str().unwrap());
    assert_eq!(fetch(server.request("POST", &path)).await.status, 200);
}

#[tokio::test]
async fn an_upload_is_attached_at_creation_or_later() {
    let server = Server::start().await;
    let body = json!({"filename": "a.mp3", "attach_to": "album:42:cover"});
    let first = create(&server, body).await;
    assert_eq!((&first["attach_to"], &first["track_id"]), (&json!("album:42:cover"), &Value::Null));
    let file = format!("{COVER}/file");
    server.get(&file).await.is_problem(409, "file-pending");
    arrive(&server, &first).await;
    let found = server.get(COVER).await.json();
    assert_eq!(
        (&found["subject"], &found["status"]),
        (&json!("album:42:cover"), &json!("uploaded"))
    );
    assert_eq!(found["current"]["id"], first["id"]);
    assert_eq!(server.get(&file).await.status, 307);

    let second = create(&server, json!({"filename": "b.mp3"})).await;
    let attach = json!({"upload_id": second["id"]});
    let accepted = server.send("PUT", COVER, attach.clone()).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    assert_eq!(accepted.json()["current"]["id"], first["id"]);
    arrive(&server, &second).await;
    let attached = server.send("PUT", COVER, attach.clone()).await;
    assert_eq!(attached.status, 200, "{attached:?}");
    assert_eq!(attached.json()["current"]["id"], second["id"]);
    let other = server.send("PUT", "/api/attachments/album:42:back", attach).await;
    other.is_problem(409, "not-attachable");
    // Clients may encode a colon.
    let encoded = server.get("/api/attachments/album%3A42%3Acover").await;
    assert_eq!(encoded.json()["current"]["id"], second["id"]);

    assert_eq!(fetch(server.request("DELETE", COVER)).await.status, 204);
    server.get(COVER).await.is_problem(404, "not-found");
    server.get(&file).await.is_problem(404, "not-found");
    server.stop().await;
}

#[tokio::test]
async fn attachments_are_listed_by_prefix_in_the_order_of_their_subjects() {
    let server = Server::start().await;
    for subject in ["album:42:cover", "album:7", "album:42:back", "album:420", "B", "a_b", "a-b"] {
        create(&server, json!({"filename": "a.mp3", "attach_to": subject})).await;
    }
    let subjects = async |query: &str| {
        let (mut found, mut next) = (Vec::new(), String::new());
        loop {
            let page = server.get(&format!("/api/attachments?{query}&limit=2{next}")).await;
            assert_eq!(page.status, 200, "{page:?}");
            let page = page.json();
            let items = page["items"].as_array().unwrap().clone();
            found.extend(items.iter().map(|item| item["subject"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(cursor) => next = format!("&cursor={cursor}"),
                None => return found,
            }
        }
    };
    // SQLite and PostgreSQL both order the subjects by their bytes.
    let all = ["B", "a-b", "a_b", "album:420", "album:42:back", "album:42:cover", "album:7"];
    assert_eq!(subjects("").await, all);
    assert_eq!(subjects("prefix=album:42:").await, ["album:42:back", "album:42:cover"]);
    assert_eq!(subjects("prefix=album:9").await, Vec::<String>::new());
    server.get("/api/attachments?prefix=a%20b").await.blames("prefix");
    server.stop().await;
}

#[tokio::test]
async fn a_bad_subject_or_body_is_refused_with_its_field() {
    let server = Server::start().await;
    let bad = |subject: &str| json!({"filename": "a.mp3", "attach_to": subject});
    for subject in ["", "a b", "a/b", "é", "track:7", &"x".repeat(201)] {
        server.send("POST", "/api/uploads", bad(subject)).await.blames("attach_to");
    }
    for subject in ["a%20b", "a%2Fb", "%C3%A9", "%FF", "track:7", &"x".repeat(201)] {
        server.get(&format!("/api/attachments/{subject}")).await.blames("subject");
    }
    let nobody = "0190a6f2-7b3c-7def-8123-456789abcdef";
    let of_nobody = bad(&format!("track:{nobody}"));
    server.send("POST", "/api/uploads", of_nobody).await.is_problem(404, "not-found");
    let track = server.track().await;
    let mut both = bad("album:42:cover");
    both["track_id"] = json!(track);
    server.send("POST", "/api/uploads", both.clone()).await.blames("attach_to");
    both["attach_to"] = json!(format!("track:{track}"));
    let made = create(&server, both).await;
    assert_eq!(
        (&made["track_id"], &made["attach_to"]),
        (&json!(track), &json!(format!("track:{track}")))
    );
    server.send("PUT", COVER, json!({"upload_id": "5"})).await.blames("upload_id");
    server.send("PUT", COVER, json!({"upload_id": nobody})).await.is_problem(404, "not-found");
    let filtered = server.get(&format!("/api/uploads?attach_to=track:{track}")).await.json();
    assert_eq!(filtered["items"][0]["id"], made["id"]);
    server.stop().await;
}
