//! `Idempotency-Key`: one resource, even if responses are lost.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use upload_coordinator::db::idempotency::Reservation;
use upload_coordinator::domain::ids::SystemIds;
use upload_coordinator::domain::{IdSource as _, Owner, Scopes};
use upload_coordinator::storage::{ObjectStore as _, PutOptions};

use super::kit::{Response, Server, fetch};
use crate::support::mp3;

async fn send(server: &Server, path: &str, key: &str, body: &Value) -> Response {
    fetch(server.request("POST", path).header("idempotency-key", key).json(body)).await
}

fn id(response: &Response) -> String {
    response.json()["id"].as_str().unwrap_or_else(|| panic!("no id: {response:?}")).to_owned()
}

#[tokio::test]
async fn twenty_identical_concurrent_requests_create_one_upload() {
    let server = Arc::new(Server::start().await);
    let body = json!({"filename": "a.mp3", "size": 1000});
    let tries = (0..20).map(|_| {
        let (server, body) = (server.clone(), body.clone());
        tokio::spawn(async move { send(&server, "/api/uploads", "k-1", &body).await })
    });
    let mut made = Vec::new();
    for one in tries.collect::<Vec<_>>() {
        let found = one.await.unwrap();
        if found.status == 201 {
            made.push(id(&found));
        } else {
            found.is_problem(409, "idempotency-in-flight");
            assert!(!found.header("retry-after").is_empty());
        }
    }
    made.dedup();
    assert_eq!(made.len(), 1);
    let listed = server.get("/api/uploads").await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    // Later requests get the same upload, with a valid URL.
    let again = send(&server, "/api/uploads", "k-1", &body).await;
    assert_eq!((again.status.as_u16(), id(&again)), (201, made.remove(0)));
    assert_eq!(again.header("cache-control"), "no-store");
    assert!(again.json()["request"]["url"].as_str().is_some_and(|url| url.contains("X-Amz-")));
    let deadline = |response: &Response| response.json()["expires_at"].as_str().map(str::to_owned);
    let stored = server.get(&format!("/api/uploads/{}", id(&again))).await;
    assert_eq!(deadline(&stored), deadline(&again), "the row knows how long the new URL lives");
}

#[tokio::test]
async fn every_creating_route_returns_the_same_resource_for_the_same_key() {
    let server = Server::start().await;
    let track = json!({"title": "t", "artist_name": "a"});
    let first = send(&server, "/api/tracks", "a", &track).await;
    let again = send(&server, "/api/tracks", "a", &track).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!(first.json(), again.json());
    assert_eq!(first.header("location"), again.header("location"));

    // The same key on another path belongs to another request.
    let path = format!("/api/tracks/{}/presigned-url", id(&first));
    send(&server, &path, "a", &json!({})).await.is_problem(422, "idempotency-mismatch");
    let sign = async || fetch(server.request("POST", &path).header("idempotency-key", "b")).await;
    let (one, two) = (sign().await, sign().await);
    assert_eq!((one.status.as_u16(), two.status.as_u16()), (201, 201), "{two:?}");
    assert_eq!(one.json()["upload"]["id"], two.json()["upload"]["id"]);
    // After the file has arrived, no URL is signed.
    let key = one.json()["upload"]["key"].as_str().unwrap().to_owned();
    server.store.put(&key, mp3(500, 1).into(), &PutOptions::default()).await.unwrap();
    let upload = one.json()["upload"]["id"].as_str().unwrap().to_owned();
    let confirm = server.request("POST", &format!("/api/uploads/{upload}/confirm"));
    assert_eq!(fetch(confirm).await.json()["status"], "uploaded");
    sign().await.is_problem(409, "state-conflict");

    let run = json!({"mode": "incremental", "dry_run": true});
    let path = "/api/admin/reconciliations?wait=true";
    let (one, two) = (send(&server, path, "c", &run).await, send(&server, path, "c", &run).await);
    assert_eq!((one.status.as_u16(), two.status.as_u16()), (200, 200));
    assert_eq!(id(&one), id(&two));
    let path = "/api/admin/reconciliations";
    send(&server, path, "c", &run).await.is_problem(422, "idempotency-mismatch");
    let (one, two) = (send(&server, path, "d", &run).await, send(&server, path, "d", &run).await);
    assert_eq!((one.status.as_u16(), two.status.as_u16()), (202, 202));
    assert_eq!(id(&one), id(&two));
    server.stop().await;
}

#[tokio::test]
async fn a_key_belongs_to_one_body_and_one_owner() {
    let server = Server::keyed().await;
    let (ann, bob) =
        (server.key("ann", Scopes::all()).await, server.key("bob", Scopes::all()).await);
    let make = async |token: &str, title: &str| {
        let request = server.request("POST", "/api/tracks").header("idempotency-key", "k");
        let request = request.header("authorization", token);
        fetch(request.json(&json!({"title": title, "artist_name": "a"}))).await
    };
    let anns = make(&ann, "one").await;
    assert_eq!(anns.status, 201);
    make(&ann, "two").await.is_problem(422, "idempotency-mismatch");
    let bobs = make(&bob, "two").await;
    assert_eq!(bobs.status, 201);
    assert_ne!(id(&anns), id(&bobs));
    server.stop().await;
}

#[tokio::test]
async fn an_invalid_key_is_400_and_a_refused_request_leaves_its_key_free() {
    let server = Server::start().await;
    let body = json!({"title": "t", "artist_name": "a"});
    let long = "x".repeat(256);
    for key in [&b""[..], b" ", b"a b", "é".as_bytes(), b"a\x01", long.as_bytes()] {
        let Ok(value) = reqwest::header::HeaderValue::from_bytes(key) else { continue };
        let request = server.request("POST", "/api/tracks").header("idempotency-key", value);
        fetch(request.json(&body)).await.blames("Idempotency-Key");
    }
    let twice = server.request("POST", "/api/tracks").header("idempotency-key", "a");
    fetch(twice.header("idempotency-key", "b").json(&body)).await.blames("Idempotency-Key");
    assert_eq!(send(&server, "/api/tracks", &"x".repeat(255), &body).await.status, 201);

    // A request can be refused before its key is reserved (the track) or after that (the upload).
    // In both cases the key works with a corrected body.
    send(&server, "/api/tracks", "k", &json!({"title": "t"})).await.blames("artist_name");
    assert_eq!(send(&server, "/api/tracks", "k", &body).await.status, 201);
    let lost = json!({"filename": "a.mp3", "track_id": SystemIds.uuid()});
    send(&server, "/api/uploads", "u", &lost).await.is_problem(404, "not-found");
    let mended = json!({"filename": "a.mp3"});
    assert_eq!(send(&server, "/api/uploads", "u", &mended).await.status, 201);
    server.stop().await;
}

#[tokio::test]
async fn an_attempt_that_crashed_is_taken_over_by_the_next_one() {
    let server = Server::start().await;
    let db = &server.app.db;
    let (owner, candidate) = (Owner::anonymous(), || SystemIds.uuid());
    let minute = Duration::from_mins(1);
    let reserve =
        async |id, lease| db.idempotency().reserve(&owner, "k", "f", id, lease).await.unwrap();
    // The attempt chose an id and crashed; its lease has expired.
    let chosen = candidate();
    let Reservation::Held(_) = reserve(chosen, Duration::ZERO).await else { panic!("free") };
    let Reservation::Held(second) = reserve(candidate(), minute).await else { panic!("lapsed") };
    assert_eq!(second.resource, chosen, "the next attempt creates the same resource");
    assert!(matches!(reserve(candidate(), minute).await, Reservation::InFlight));
    // Another replica sees the same state.
    let replica = server.database.connect().await;
    let seen = replica.idempotency().reserve(&owner, "k", "f", candidate(), minute).await.unwrap();
    assert!(matches!(seen, Reservation::InFlight));
    let seen = replica.idempotency().reserve(&owner, "k", "g", candidate(), minute).await.unwrap();
    assert!(matches!(seen, Reservation::Mismatch));
    server.stop().await;
}

#[tokio::test]
async fn if_two_attempts_hold_a_key_one_of_them_creates_the_resource() {
    use upload_coordinator::db::tracks::TrackFields;
    use upload_coordinator::domain::TrackId;
    let server = Server::start().await;
    let db = &server.app.db;
    let (owner, now) = (Owner::anonymous(), server.app.now());
    let fields = || TrackFields { title: "t".into(), artist_name: "a".into(), release_date: None };
    let hold = async || {
        let held =
            db.idempotency().reserve(&owner, "k", "f", SystemIds.uuid(), Duration::ZERO).await;
        match held.unwrap() {
            Reservation::Held(claim) => claim,
            other => panic!("{other:?}"),
        }
    };
    // The first attempt was slow, not dead: its lease has expired, but it continues.
    let (slow, quick) = (hold().await, hold().await);
    let make = async |claim| {
        db.tracks().create(TrackId(slow.resource), &owner, fields(), now, Some(claim)).await
    };
    make(&quick).await.unwrap();
    assert!(make(&slow).await.is_err(), "its id is taken");
    assert!(db.idempotency().is_completed(&slow).await.unwrap());
    let found = server.app.release_claim(&slow, "an error").await;
    assert_eq!(found, Ok(quick.resource), "it finds the resource of the other attempt");
    let seen = db.idempotency().reserve(&owner, "k", "f", SystemIds.uuid(), Duration::ZERO).await;
    assert!(matches!(seen, Ok(Reservation::Done(id)) if id == quick.resource));
    // If no attempt created the resource, the key is released and can be used for another request.
    let failed =
        db.idempotency().reserve(&owner, "x", "f", SystemIds.uuid(), Duration::from_mins(1)).await;
    let Ok(Reservation::Held(failed)) = failed else { panic!("free") };
    assert_eq!(server.app.release_claim(&failed, "an error").await, Err("an error"));
    let again =
        db.idempotency().reserve(&owner, "x", "other", SystemIds.uuid(), Duration::ZERO).await;
    assert!(matches!(again, Ok(Reservation::Held(_))));
    server.stop().await;
}

#[tokio::test]
async fn keys_older_than_a_day_are_free_again_and_are_pruned_in_batches() {
    use sea_orm::ConnectionTrait as _;
    let server = Server::start().await;
    let body = |n: u32| json!({"title": format!("t{n}"), "artist_name": "a"});
    for n in 0..5 {
        let made = send(&server, "/api/tracks", &format!("k{n}"), &body(n)).await;
        assert_eq!(made.status, 201);
    }
    assert_eq!(server.app.db.idempotency().prune(2).await.unwrap(), 0, "they are young");
    let raw = sea_orm::Database::connect(&server.database.url).await.unwrap();
    let yesterday = "UPDATE idempotency_keys SET created_at = '2020-01-01T00:00:00+00:00' \
        WHERE key <> 'k4'";
    raw.execute_unprepared(yesterday).await.unwrap();
    // Expired but not deleted yet: another request can use the key.
    assert_eq!(send(&server, "/api/tracks", "k0", &body(9)).await.status, 201);
    let mut pruned = 0;
    loop {
        match server.app.db.idempotency().prune(2).await.unwrap() {
            0 => break,
            batch => pruned += batch,
        }
    }
    assert_eq!(pruned, 3, "k0 is of today again");
    send(&server, "/api/tracks", "k4", &body(9)).await.is_problem(422, "idempotency-mismatch");
    raw.close().await.unwrap();
    server.stop().await;
}
