//! Rate limits, quotas and concurrency limits.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use upload_coordinator::auth::rate_limit::RateLimit;
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::domain::{ConcurrencyLimit, Owner, Scopes, Status};
use upload_coordinator::http::SecurityConfig;

use super::kit::{Response, Server, fetch};
use crate::support::mp3;
use crate::support::wait::wait_for;

async fn send(server: &Server, token: &str, body: Value) -> Response {
    let request = server.request("POST", "/api/uploads").header("authorization", token);
    fetch(request.json(&body)).await
}

#[tokio::test]
async fn a_caller_over_its_rate_limit_gets_429_and_every_response_has_the_remaining_quota() {
    let slow = NonZeroU32::new(1).unwrap();
    let burst = NonZeroU32::new(3).unwrap();
    let server = Server::protected(Quota::default(), |security| {
        security.rate_limit = Some(RateLimit::new(slow, burst));
    })
    .await;
    let (ann, bob) =
        (server.key("ann", Scopes::all()).await, server.key("bob", Scopes::all()).await);
    let get = async |token: &str, path: &str, from: &str| {
        let request = server.request("GET", path).header("authorization", token);
        fetch(request.header("x-forwarded-for", from)).await
    };
    let first = get(&ann, "/api/tracks", "10.0.0.1").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-policy"), "\"default\";q=3;w=3");
    assert_eq!(first.header("ratelimit"), "\"default\";r=2;t=1");
    let missing = get(&ann, "/api/tracks/x", "10.0.0.2").await;
    missing.is_problem(404, "not-found");
    assert!(missing.header("ratelimit").starts_with("\"default\";r=1"), "{missing:?}");
    let mut last = missing;
    // These requests use up the owner's burst, although each one claims another address.
    for n in 0..3 {
        last = get(&ann, "/api/tracks", &format!("10.0.1.{n}")).await;
    }
    last.is_problem(429, "rate-limited");
    assert!(last.header("retry-after").parse::<u64>().is_ok_and(|s| (1..=3).contains(&s)));
    assert!(last.header("ratelimit").starts_with("\"default\";r=0"), "{last:?}");
    assert_eq!(get(&bob, "/api/tracks", "10.0.0.1").await.status, 200, "another owner");
    assert_eq!(server.get("/healthz").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn the_limit_of_pending_uploads_per_owner_is_enforced() {
    let quota = Quota { pending_uploads: Some(2), ..Quota::default() };
    let server = Arc::new(Server::protected(quota, |_| {}).await);
    let ann = server.key("ann", Scopes::all()).await;
    // Sent concurrently, so that a count without a lock would see the same rows.
    let tries = (0..6).map(|_| {
        let (server, ann) = (server.clone(), ann.clone());
        tokio::spawn(async move { send(&server, &ann, json!({"filename": "a.mp3"})).await })
    });
    let mut made = Vec::new();
    for one in tries.collect::<Vec<_>>() {
        let found = one.await.unwrap();
        if found.status == 201 {
            made.push(found.json()["id"].as_str().unwrap().to_owned());
        } else {
            found.is_problem(429, "quota-exceeded");
            assert!(!found.header("retry-after").is_empty());
            assert_eq!(found.json()["detail"], "the quota allows at most 2 pending uploads");
        }
    }
    assert_eq!(made.len(), 2);
    let bob = server.key("bob", Scopes::all()).await;
    assert_eq!(send(&server, &bob, json!({"filename": "a.mp3"})).await.status, 201);
    // Bytes may still arrive by the URL of a cancelled upload, so the quota is not free yet.
    let delete = async |token: &str, id: &str| {
        let path = format!("/api/uploads/{id}");
        let ended = fetch(server.request("DELETE", &path).header("authorization", token)).await;
        assert_eq!(ended.status, 204);
    };
    delete(&ann, &made[0]).await;
    send(&server, &ann, json!({"filename": "a.mp3"})).await.is_problem(429, "quota-exceeded");
    // A cancelled multipart upload frees the quota at once, because its parts are aborted.
    let parts = json!({"filename": "a.mp3", "size": 6 << 20, "strategy": "multipart"});
    for _ in 0..3 {
        let made = send(&server, &bob, parts.clone()).await;
        assert_eq!(made.status, 201);
        delete(&bob, made.json()["id"].as_str().unwrap()).await;
    }
}

#[tokio::test]
async fn the_limit_of_pending_bytes_per_owner_is_enforced() {
    let max_sizes = [("tracks".to_owned(), 16 << 20)].into();
    let quota = Quota { pending_bytes: Some(20 << 20), max_sizes, ..Quota::default() };
    let server = Server::protected(quota, |_| {}).await;
    let ann = server.key("ann", Scopes::all()).await;
    let sized = |size: u64| json!({"filename": "a.mp3", "size": size});
    assert_eq!(send(&server, &ann, sized(4 << 20)).await.status, 201);
    // An upload without a size counts with max_size of the policy.
    assert_eq!(send(&server, &ann, json!({"filename": "a.mp3"})).await.status, 201);
    send(&server, &ann, sized(1)).await.is_problem(429, "quota-exceeded");
    server.stop().await;
}

#[tokio::test]
async fn the_limit_of_uploads_per_day_and_owner_is_enforced() {
    let quota = Quota { uploads_per_day: Some(1), ..Quota::default() };
    let server = Server::protected(quota, |_| {}).await;
    let ann = server.key("ann", Scopes::all()).await;
    let made = send(&server, &ann, json!({"filename": "a.mp3"})).await;
    assert_eq!(made.status, 201);
    let path = format!("/api/uploads/{}", made.json()["id"].as_str().unwrap());
    fetch(server.request("DELETE", &path).header("authorization", &ann)).await;
    let again = send(&server, &ann, json!({"filename": "a.mp3"})).await;
    again.is_problem(429, "quota-exceeded");
    server.stop().await;
}

#[tokio::test]
async fn an_expired_upload_is_presigned_again_only_within_the_quota() {
    use entity::upload::{ActiveModel, Column, Entity};
    use sea_orm::{ActiveValue::Set, ColumnTrait as _, EntityTrait as _, QueryFilter as _};
    let quota = Quota { pending_uploads: Some(1), ..Quota::default() };
    let server = Server::protected(quota, |_| {}).await;
    let ann = server.key("ann", Scopes::all()).await;
    let old = send(&server, &ann, json!({"filename": "a.mp3"})).await.json();
    let connection = sea_orm::Database::connect(&server.database.url).await.unwrap();
    let expired = ActiveModel { status: Set(Status::Expired.name().into()), ..Default::default() };
    let id: uuid::Uuid = old["id"].as_str().and_then(|id| id.parse().ok()).unwrap();
    let update = Entity::update_many().set(expired).filter(Column::Id.eq(id));
    assert_eq!(update.exec(&connection).await.unwrap().rows_affected, 1);
    connection.close().await.unwrap();

    assert_eq!(send(&server, &ann, json!({"filename": "b.mp3"})).await.status, 201);
    let path = format!("/api/uploads/{id}/presign");
    let again = fetch(server.request("POST", &path).header("authorization", &ann)).await;
    again.is_problem(429, "quota-exceeded");
    assert!(!again.header("retry-after").is_empty());
    assert_eq!(again.json()["detail"], "the quota allows at most 1 pending uploads");
    server.stop().await;
}

#[tokio::test]
async fn one_owner_cannot_use_all_waiting_requests() {
    let server = Arc::new(Server::keyed().await);
    server.app.db.uploads().limit_watchers(3, 2);
    let (ann, bob) =
        (server.key("ann", Scopes::all()).await, server.key("bob", Scopes::all()).await);
    let path = async |token: &str| {
        let made = send(&server, token, json!({"filename": "a.mp3"})).await;
        format!("/api/uploads/{}", made.json()["id"].as_str().unwrap())
    };
    let (hers, his) = (path(&ann).await, path(&bob).await);
    let stream = async |path: &str, token: &str| {
        let request = server.request("GET", &format!("{path}/events"));
        request.header("authorization", token).send().await.unwrap()
    };
    let (first, second) = (stream(&hers, &ann).await, stream(&hers, &ann).await);
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    let poll = format!("{hers}?wait=30");
    let over = fetch(server.request("GET", &poll).header("authorization", &ann)).await;
    over.is_problem(429, "quota-exceeded");
    assert_eq!(over.json()["detail"], "At most 2 waiting requests per owner");
    assert_eq!(over.header("retry-after"), "5");
    // Ann gets a response without waiting, and another owner can wait.
    let now = fetch(server.request("GET", &hers).header("authorization", &ann)).await;
    assert_eq!(now.status, 200);
    let third = stream(&his, &bob).await;
    assert_eq!(third.status(), 200);
    let full =
        fetch(server.request("GET", &format!("{his}?wait=1")).header("authorization", &bob)).await;
    full.is_problem(503, "too-many-waiters");
    drop((first, second, third));
}

#[tokio::test]
async fn head_of_an_event_stream_ends_at_once_and_is_no_waiting_request() {
    let server = Server::start().await;
    server.app.db.uploads().limit_watchers(1, 1);
    let made = server.send("POST", "/api/uploads", json!({"filename": "a.mp3"})).await;
    let path = format!("/api/uploads/{}/events", made.json()["id"].as_str().unwrap());
    let mut stream = server.request("GET", &path).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    assert!(stream.chunk().await.unwrap().is_some());
    // The stream takes the only permit to wait.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut found = String::new();
    let read = timeout(Duration::from_secs(10), socket.read_to_string(&mut found)).await;
    read.unwrap().unwrap();
    assert!(found.starts_with("HTTP/1.1 200 "), "{found}");
    assert!(found.contains("content-type: text/event-stream\r\n") && found.ends_with("\r\n\r\n"));
    let nobody = "/api/uploads/0190a6f2-7b3c-7def-8123-456789abcdef/events";
    assert_eq!(fetch(server.request("HEAD", nobody)).await.status, 404);
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn head_of_an_upload_never_waits() {
    let server = Server::start().await;
    server.app.db.uploads().limit_watchers(1, 1);
    let made = server.send("POST", "/api/uploads", json!({"filename": "a.mp3"})).await;
    let path = format!("/api/uploads/{}", made.json()["id"].as_str().unwrap());
    let mut stream = server.request("GET", &format!("{path}/events")).send().await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    let waits = fetch(server.request("GET", &format!("{path}?wait=30"))).await;
    waits.is_problem(503, "too-many-waiters");
    let head = fetch(server.request("HEAD", &format!("{path}?wait=30"))).await;
    assert_eq!(head.status, 200, "{head:?}");
    assert_eq!(fetch(server.request("HEAD", &format!("{path}?wait=x"))).await.status, 400);
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn a_direct_upload_over_the_total_limit_is_503_and_over_the_owner_limit_429() {
    let limit = Arc::new(ConcurrencyLimit::new(2, 1));
    let held = limit.clone();
    let server = Server::protected(Quota::default(), |security| {
        security.direct_uploads = limit;
    })
    .await;
    let ann = server.key("ann", Scopes::all()).await;
    let body = json!({"title": "t", "artist_name": "a"});
    let request = server.request("POST", "/api/tracks").header("authorization", &ann);
    let track = fetch(request.json(&body)).await.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/api/tracks/{track}/upload/a.mp3");
    let put = async || {
        let request = server.request("PUT", &path).header("authorization", &ann);
        fetch(request.header("content-type", "audio/mpeg").body(mp3(1000, 1))).await
    };
    let theirs = held.acquire(&Owner::named("bob")).unwrap();
    assert_eq!(put().await.status, 200, "another owner has a separate limit");
    let own = held.acquire(&Owner::named("ann")).unwrap();
    let busy = put().await;
    busy.is_problem(503, "busy");
    assert!(!busy.header("retry-after").is_empty());
    drop(theirs);
    let over = put().await;
    over.is_problem(429, "quota-exceeded");
    assert_eq!(over.json()["detail"], "At most 1 concurrent direct uploads per owner");
    assert_eq!(over.header("retry-after"), "5");
    drop(own);
    assert_eq!(put().await.status, 200);
    assert_eq!(put().await.status, 200, "the permit was released");
    assert_eq!(held.in_use(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_trickled_file_is_408_and_frees_its_permit() {
    let limit = Arc::new(ConcurrencyLimit::new(1, 1));
    let held = limit.clone();
    let server = Server::build(Duration::from_millis(600), Quota::default(), |_| SecurityConfig {
        direct_uploads: limit,
        ..SecurityConfig::default()
    })
    .await;
    let track = server.track().await;
    for kind in ["audio/mpeg", "multipart/form-data; boundary=x"] {
        let socket = TcpStream::connect(server.address).await.unwrap();
        let (mut responses, mut requests) = socket.into_split();
        let start = format!(
            "PUT /api/tracks/{track}/upload/a.mp3 HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n\
             content-length: 1000000\r\n\r\n--x\r\n"
        );
        requests.write_all(start.as_bytes()).await.unwrap();
        // The pauses are short enough, but the rate is too low.
        let trickle = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            for byte in
                b"Content-Disposition: form-data; name=\"file\"\r\n\r\n".iter().chain(&[b'x'; 2000])
            {
                ticks.tick().await;
                if requests.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        });
        let mut text = String::new();
        let read = timeout(Duration::from_secs(20), responses.read_to_string(&mut text)).await;
        trickle.abort();
        read.expect("a response in time").unwrap();
        assert!(text.starts_with("HTTP/1.1 408 "), "{kind}: {text}");
        assert!(text.contains("less than min_rate=1024 bytes per second"), "{kind}: {text}");
        wait_for("the permit", async || (held.in_use() == 0).then_some(())).await;
    }
    assert_eq!(server.store.keys(), Vec::<String>::new());
    let request = server.request("PUT", &format!("/api/tracks/{track}/upload/a.mp3"));
    assert_eq!(fetch(request.body(mp3(1000, 1))).await.status, 200);
    server.stop().await;
}
