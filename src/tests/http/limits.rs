//! What one caller may take, and all of them together.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use upload_coordinator::db::quota::Quota;
use upload_coordinator::domain::Scopes;
use upload_coordinator::http::rates::Rates;

use super::kit::{Answer, Server, answer, mp3};

async fn send(server: &Server, token: &str, body: Value) -> Answer {
    let request = server.request("POST", "/api/uploads").header("authorization", token);
    answer(request.json(&body)).await
}

#[tokio::test]
async fn a_caller_over_its_rate_gets_429_and_every_answer_says_what_is_left() {
    let slow = NonZeroU32::new(1).expect("a number");
    let burst = NonZeroU32::new(3).expect("a number");
    let server = Server::protected(Quota::default(), |protection| {
        protection.rates = Some(Rates::new(slow, burst));
    })
    .await;
    let (ann, bob) =
        (server.key("ann", Scopes::all()).await, server.key("bob", Scopes::all()).await);
    let get = async |token: &str, path: &str, from: &str| {
        let request = server.request("GET", path).header("authorization", token);
        answer(request.header("x-forwarded-for", from)).await
    };
    let first = get(&ann, "/api/tracks", "10.0.0.1").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-policy"), "\"default\";q=3;w=3");
    assert_eq!(first.header("ratelimit"), "\"default\";r=2;t=1");
    let missing = get(&ann, "/api/tracks/x", "10.0.0.2").await;
    missing.is_problem(404, "not-found");
    assert!(missing.header("ratelimit").starts_with("\"default\";r=1"), "{missing:?}");
    let mut last = missing;
    // The burst is used up, wherever the requests say that they are from.
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
async fn as_many_pending_uploads_as_an_owner_may_have() {
    let quota = Quota { pending_uploads: Some(2), ..Quota::default() };
    let server = Arc::new(Server::protected(quota, |_| {}).await);
    let ann = server.key("ann", Scopes::all()).await;
    // At once, so that they would count the same rows.
    let tries = (0..6).map(|_| {
        let (server, ann) = (server.clone(), ann.clone());
        tokio::spawn(async move { send(&server, &ann, json!({"filename": "a.mp3"})).await })
    });
    let mut made = Vec::new();
    for one in tries.collect::<Vec<_>>() {
        let found = one.await.expect("an answer");
        if found.status == 201 {
            made.push(found.json()["id"].as_str().expect("an id").to_owned());
        } else {
            found.is_problem(429, "quota-exceeded");
            assert!(!found.header("retry-after").is_empty());
            assert_eq!(found.json()["detail"], "at most 2 pending uploads");
        }
    }
    assert_eq!(made.len(), 2);
    let bob = server.key("bob", Scopes::all()).await;
    assert_eq!(send(&server, &bob, json!({"filename": "a.mp3"})).await.status, 201);
    // One that ends makes room.
    let path = format!("/api/uploads/{}", made[0]);
    let ended = answer(server.request("DELETE", &path).header("authorization", &ann)).await;
    assert_eq!(ended.status, 204);
    assert_eq!(send(&server, &ann, json!({"filename": "a.mp3"})).await.status, 201);
}

#[tokio::test]
async fn as_many_pending_bytes_as_an_owner_may_have() {
    let max_sizes = [("tracks".to_owned(), 16 << 20)].into();
    let quota = Quota { pending_bytes: Some(20 << 20), max_sizes, ..Quota::default() };
    let server = Server::protected(quota, |_| {}).await;
    let ann = server.key("ann", Scopes::all()).await;
    let sized = |size: u64| json!({"filename": "a.mp3", "size": size});
    assert_eq!(send(&server, &ann, sized(4 << 20)).await.status, 201);
    // Without a size it may become as large as the policy allows.
    assert_eq!(send(&server, &ann, json!({"filename": "a.mp3"})).await.status, 201);
    send(&server, &ann, sized(1)).await.is_problem(429, "quota-exceeded");
    server.stop().await;
}

#[tokio::test]
async fn as_many_uploads_a_day_as_an_owner_may_create() {
    let quota = Quota { uploads_per_day: Some(1), ..Quota::default() };
    let server = Server::protected(quota, |_| {}).await;
    let ann = server.key("ann", Scopes::all()).await;
    let made = send(&server, &ann, json!({"filename": "a.mp3"})).await;
    assert_eq!(made.status, 201);
    let path = format!("/api/uploads/{}", made.json()["id"].as_str().expect("an id"));
    answer(server.request("DELETE", &path).header("authorization", &ann)).await;
    let again = send(&server, &ann, json!({"filename": "a.mp3"})).await;
    again.is_problem(429, "quota-exceeded");
    server.stop().await;
}

#[tokio::test]
async fn a_file_for_which_there_is_no_place_is_503() {
    let places = Arc::new(Semaphore::new(1));
    let held = places.clone();
    let server = Server::protected(Quota::default(), |protection| {
        protection.direct_uploads = places;
    })
    .await;
    let ann = server.key("ann", Scopes::all()).await;
    let body = json!({"title": "t", "artist_name": "a"});
    let request = server.request("POST", "/api/tracks").header("authorization", &ann);
    let track = answer(request.json(&body)).await.json()["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/tracks/{track}/upload/a.mp3");
    let put = async || {
        let request = server.request("PUT", &path).header("authorization", &ann);
        answer(request.header("content-type", "audio/mpeg").body(mp3(1000))).await
    };
    let place = held.try_acquire_owned().expect("the place");
    let busy = put().await;
    busy.is_problem(503, "busy");
    assert!(!busy.header("retry-after").is_empty());
    drop(place);
    assert_eq!(put().await.status, 200);
    assert_eq!(put().await.status, 200, "the place was given back");
    server.stop().await;
}
