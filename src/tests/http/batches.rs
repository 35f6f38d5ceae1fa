//! Many uploads in one request.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use proptest::prelude::*;
use serde_json::{Value, json};
use upload_coordinator::auth::rate_limit::RateLimit;
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::domain::{Owner, Scopes};
use upload_coordinator::http::SecurityConfig;
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::{ObjectStore as _, PutOptions, StoreError};

use super::kit::{Response, Server, fetch, fuzz};
use crate::support::{PNG, mp3};

const BATCH: &str = "/api/uploads/batch";
const CONFIRM: &str = "/api/uploads/batch/confirm";
const NOBODY: &str = "0190a6f2-7b3c-7def-8123-456789abcdef";

fn good(name: &str) -> Value {
    json!({"filename": format!("{name}.mp3")})
}

fn batch(items: impl IntoIterator<Item = Value>) -> Value {
    json!({"uploads": items.into_iter().collect::<Vec<_>>()})
}

async fn create(server: &Server, items: impl IntoIterator<Item = Value>) -> Vec<Value> {
    results(&server.send("POST", BATCH, batch(items)).await)
}

async fn keyed(server: &Server, key: &str, body: &Value) -> Response {
    fetch(server.request("POST", BATCH).header("idempotency-key", key).json(body)).await
}

fn results(response: &Response) -> Vec<Value> {
    assert_eq!(response.status, 200, "{response:?}");
    response.json()["results"].as_array().unwrap().clone()
}

fn statuses(results: &[Value]) -> Vec<u64> {
    results.iter().map(|result| result["status"].as_u64().unwrap()).collect()
}

fn id(result: &Value) -> &str {
    result["upload"]["id"].as_str().unwrap_or_else(|| panic!("no upload: {result}"))
}

fn problem(result: &Value) -> &str {
    result["problem"]["type"].as_str().unwrap_or_else(|| panic!("no problem: {result}"))
}

async fn count(server: &Server) -> usize {
    let listed = server.get("/api/uploads?limit=1000").await.json();
    listed["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn each_upload_of_a_batch_has_its_own_result_in_its_place() {
    let server = Server::start().await;
    let items = (0..100).map(|n| match n % 10 {
        1 => json!({"filename": format!("{n}.exe")}),
        3 => json!({"filename": format!("{n}.mp3"), "no_such": 1}),
        5 => json!({"filename": format!("{n}.mp3"), "track_id": NOBODY}),
        7 => json!(n),
        9 => json!({"filename": format!("{n}.mp3"), "policy": "none"}),
        _ => good(&n.to_string()),
    });
    let response = server.send("POST", BATCH, batch(items)).await;
    assert_eq!(response.header("cache-control"), "no-store");
    let request_id = response.header("x-request-id").to_owned();
    for (n, result) in results(&response).iter().enumerate() {
        let status = result["status"].as_u64().unwrap();
        if n % 2 == 0 {
            assert_eq!((status, result.get("problem")), (201, None), "{n}: {result}");
            assert_eq!(result["upload"]["filename"], format!("{n}.mp3"));
            assert_eq!(result["upload"]["status"], "pending");
            assert!(result["upload"]["request"]["url"].is_string(), "{result}");
            continue;
        }
        assert_eq!(result.get("upload"), None, "{n}: {result}");
        let (expected, name, field) = match n % 10 {
            1 => (400, "validation", "filename"),
            3 => (400, "validation", "no_such"),
            5 => (404, "not-found", ""),
            7 => (400, "validation", "body"),
            _ => (400, "validation", "policy"),
        };
        assert_eq!((status, &result["problem"]["status"]), (expected, &json!(expected)));
        assert_eq!(problem(result), format!("/problems/{name}"), "{result}");
        assert_eq!(result["problem"]["request_id"], request_id.as_str());
        assert!(field.is_empty() || result["problem"]["errors"][field][0].is_string(), "{result}");
    }
    assert_eq!(count(&server).await, 50);
    server.stop().await;
}

#[tokio::test]
async fn a_batch_has_1_to_100_items_and_a_body_of_a_mebibyte() {
    let server = Server::start().await;
    server.send("POST", BATCH, batch([])).await.blames("uploads");
    server.send("POST", BATCH, json!({})).await.blames("uploads");
    server.send("POST", BATCH, json!({"uploads": null})).await.blames("uploads");
    let many = (0..101).map(|n| good(&n.to_string()));
    server.send("POST", BATCH, batch(many)).await.blames("uploads");
    assert_eq!(count(&server).await, 0);
    // Each upload has the largest metadata that S3 allows.
    let full = (0..100).map(|n| {
        let mut item = good(&n.to_string());
        item["metadata"] = json!({"m": "x".repeat(2047)});
        item
    });
    assert!(statuses(&create(&server, full).await).iter().all(|status| *status == 201));
    let mut gigantic = good("a");
    gigantic["metadata"] = json!({"m": "x".repeat(1 << 20)});
    server.send("POST", BATCH, batch([gigantic])).await.is_problem(413, "body-too-large");
    let mut large = good("a");
    large["metadata"] = json!({"m": "x".repeat(1_000_000)});
    let refused = create(&server, [large, good("b")]).await;
    assert_eq!(statuses(&refused), [400, 201]);
    assert!(refused[0].to_string().len() < 1000, "{}", refused[0]);
    for method in ["GET", "PUT", "DELETE"] {
        let found = fetch(server.request(method, BATCH)).await;
        found.is_problem(405, "method-not-allowed");
    }
    server.stop().await;
}

#[tokio::test]
async fn uploads_for_one_subject_take_its_numbers_in_their_order() {
    let server = Server::start().await;
    let track = server.track().await;
    let items = (0..12).map(|n| {
        let mut item = good(&n.to_string());
        match n % 3 {
            0 => item["attach_to"] = json!("album:42:cover"),
            1 => item["track_id"] = json!(track),
            _ => {}
        }
        item
    });
    let made = create(&server, items).await;
    let owner = Owner::anonymous();
    for (subject, first) in [("album:42:cover".to_owned(), 0), (format!("track:{track}"), 1)] {
        let mut sequences = Vec::new();
        for result in made.iter().skip(first).step_by(3) {
            assert_eq!(result["upload"]["attach_to"], subject.as_str());
            let id = id(result).parse().unwrap();
            let row = server.app.upload(&owner, id).await.unwrap();
            sequences.push(row.slot.unwrap().sequence);
        }
        assert_eq!(sequences, [1, 2, 3, 4]);
        let path = format!("/api/attachments/{subject}");
        let newest = server.get(&path).await.json()["upload"]["id"].clone();
        assert_eq!(newest, id(&made[first + 9]));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_batch_gets_the_same_results_with_valid_urls() {
    let quota = Quota { pending_uploads: Some(3), ..Quota::default() };
    let server = Server::build(Duration::from_secs(20), quota, |_| SecurityConfig::default()).await;
    let body = batch([
        good("a"),
        json!({"filename": "b.exe"}),
        json!({"filename": "c.mp3", "track_id": NOBODY}),
        good("d"),
        json!({"filename": "e.mp3", "size": 6 << 20, "strategy": "multipart"}),
        good("f"),
        json!(7),
        good("g"),
    ]);
    let first = results(&keyed(&server, "k", &body).await);
    let expected = [201, 400, 404, 201, 201, 429, 400, 429];
    assert_eq!(statuses(&first), expected);
    // A confirmed upload no longer counts in the quota, but the repeated request still returns the
    // first results.
    let path = format!("/api/uploads/{}", id(&first[0]));
    let put = server.store.clone();
    let key = first[0]["upload"]["key"].as_str().unwrap();
    put.put(key, mp3(900, 1).into(), &PutOptions::default()).await.unwrap();
    let confirm = format!("{path}/confirm");
    assert_eq!(fetch(server.request("POST", &confirm)).await.status, 200);
    let again = results(&keyed(&server, "k", &body).await);
    assert_eq!(statuses(&again), expected);
    for (first, again) in first.iter().zip(&again) {
        assert_eq!(first["upload"]["id"], again["upload"]["id"]);
        assert_eq!(first["problem"]["type"], again["problem"]["type"]);
        assert_eq!(first["problem"]["detail"], again["problem"]["detail"]);
    }
    assert_eq!(again[0]["upload"]["status"], "uploaded");
    assert_eq!(again[0]["upload"].get("request"), None, "nothing is left to send");
    assert!(again[3]["upload"]["request"]["url"].is_string());
    assert_eq!(count(&server).await, 3);
    keyed(&server, "k", &batch([good("x")])).await.is_problem(422, "idempotency-mismatch");
    // A batch that creates nothing uses its key too.
    let bad = batch([json!({"filename": "b.exe"})]);
    for _ in 0..2 {
        assert_eq!(statuses(&results(&keyed(&server, "bad", &bad).await)), [400]);
    }
    keyed(&server, "bad", &batch([good("x")])).await.is_problem(422, "idempotency-mismatch");
    // If the body can't be parsed, the key is not used.
    keyed(&server, "free", &batch([])).await.blames("uploads");
    let over = results(&keyed(&server, "free", &batch([good("y"), good("z")])).await);
    assert_eq!(statuses(&over), [201, 429]);
    server.stop().await;
}

#[tokio::test]
async fn batches_with_one_key_at_once_create_one_batch() {
    let server = Arc::new(Server::start().await);
    let body = batch((0..20).map(|n| good(&n.to_string())));
    let tries = (0..10).map(|_| {
        let (server, body) = (server.clone(), body.clone());
        tokio::spawn(async move { keyed(&server, "k", &body).await })
    });
    let mut made: Vec<Vec<String>> = Vec::new();
    for one in tries.collect::<Vec<_>>() {
        let found = one.await.unwrap();
        if found.status == 200 {
            let found = results(&found);
            made.push(found.iter().map(|result| id(result).to_owned()).collect());
        } else {
            found.is_problem(409, "idempotency-in-flight");
        }
    }
    made.dedup();
    assert_eq!(made.len(), 1);
    assert_eq!(count(&server).await, 20);
}

#[tokio::test]
async fn quotas_count_the_items_of_concurrent_batches() {
    let quota = Quota { pending_uploads: Some(30), uploads_per_day: Some(40), ..Quota::default() };
    let server = Server::protected(quota, |_| {}).await;
    let ann = server.key("ann", Scopes::all()).await;
    let send = |body: Value| {
        fetch(server.request("POST", BATCH).header("authorization", &ann).json(&body))
    };
    let batches = join_all((0..6).map(|_| send(batch((0..10).map(|_| good("a")))))).await;
    let all: Vec<u64> = batches.iter().flat_map(|response| statuses(&results(response))).collect();
    assert_eq!(all.iter().filter(|status| **status == 201).count(), 30);
    assert_eq!(all.iter().filter(|status| **status == 429).count(), 30);
    let bob = server.key("bob", Scopes::all()).await;
    let request = server.request("POST", BATCH).header("authorization", &bob);
    let other = fetch(request.json(&batch((0..31).map(|_| good("a"))))).await;
    let other = results(&other);
    assert_eq!(statuses(&other[..30]), [201; 30]);
    assert_eq!(other[30]["problem"]["detail"], "the quota allows at most 30 pending uploads");
    server.stop().await;
}

#[tokio::test]
async fn the_rate_limit_counts_items() {
    let server = Server::protected(Quota::default(), |security| {
        let (rate, burst) = (NonZeroU32::new(1).unwrap(), NonZeroU32::new(10).unwrap());
        security.rate_limit = Some(RateLimit::new(rate, burst));
    })
    .await;
    let ann = server.key("ann", Scopes::all()).await;
    let send = |path: &str, body: Value| {
        fetch(server.request("POST", path).header("authorization", &ann).json(&body))
    };
    let too_many = send(BATCH, batch((0..11).map(|_| good("a")))).await;
    too_many.is_problem(429, "rate-limited");
    let detail = too_many.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail, "11 items exceed the limit of 10 at once (1 per second)");
    assert_eq!(too_many.header("retry-after"), "10");
    let some = send(BATCH, batch((0..7).map(|_| good("a")))).await;
    assert_eq!(statuses(&results(&some)), [201; 7]);
    assert!(some.header("ratelimit").starts_with("\"default\";r="), "{some:?}");
    let ids: Vec<_> = results(&some).iter().map(|result| id(result).to_owned()).collect();
    let more = send(CONFIRM, json!({"ids": ids})).await;
    more.is_problem(429, "rate-limited");
    assert!(more.header("retry-after").parse::<u64>().is_ok_and(|s| (1..=10).contains(&s)));
    server.stop().await;
}

#[tokio::test]
async fn multipart_uploads_of_a_batch_are_opened_with_their_first_parts() {
    let server = Server::start().await;
    let large = json!({"filename": "a.mp3", "size": 6 << 20, "strategy": "multipart"});
    let direct = json!({"filename": "b.mp3", "strategy": "direct"});
    let made = create(&server, [large, direct]).await;
    assert_eq!(statuses(&made), [201, 201]);
    assert_eq!(made[0]["upload"]["multipart"]["part_count"], 1);
    assert_eq!(server.store.calls(Operation::CreateMultipart), 0);
    let parts = format!("/api/uploads/{}/parts", id(&made[0]));
    assert_eq!(server.get(&parts).await.json(), json!({"parts": []}));
    let signed = server.send("POST", &parts, json!({"part_numbers": [1]})).await;
    assert_eq!(signed.status, 200, "{signed:?}");
    assert_eq!(server.store.calls(Operation::CreateMultipart), 1);
    let content = made[1]["upload"]["request"]["url"].as_str().unwrap();
    assert_eq!(content, format!("/api/uploads/{}/content", id(&made[1])));
    server.stop().await;
}

#[tokio::test]
async fn each_confirmation_of_a_batch_has_its_own_result_in_its_place() {
    let server = Server::keyed().await;
    let (ann, bob) =
        (server.key("ann", Scopes::all()).await, server.key("bob", Scopes::all()).await);
    let send = |key: &str, path: &str, body: Value| {
        fetch(server.request("POST", path).header("authorization", key).json(&body))
    };
    let made = results(&send(&ann, BATCH, batch((0..40).map(|_| good("a")))).await);
    let theirs = results(&send(&bob, BATCH, batch([good("a")])).await);
    for (n, result) in made.iter().enumerate() {
        let key = result["upload"]["key"].as_str().unwrap();
        let bytes = match n % 4 {
            0 | 1 => mp3(900, 1),
            2 => PNG.to_vec(),
            _ => continue,
        };
        server.store.put(key, bytes.into(), &PutOptions::default()).await.unwrap();
    }
    let mut ids: Vec<_> = made.iter().map(|result| json!(id(result))).collect();
    ids.extend([json!(id(&theirs[0])), json!(NOBODY), json!("x")]);
    for _ in 0..2 {
        let confirmed = results(&send(&ann, CONFIRM, json!({"ids": ids})).await);
        assert_eq!(confirmed.len(), 43);
        for (n, result) in confirmed.iter().enumerate().take(40) {
            let status = result["status"].as_u64().unwrap();
            if n % 4 == 3 {
                assert_eq!((status, problem(result)), (409, "/problems/not-arrived"));
                continue;
            }
            assert_eq!((status, id(result)), (200, id(&made[n])), "{result}");
            let expected = if n % 4 == 2 { "rejected" } else { "uploaded" };
            assert_eq!(result["upload"]["status"], expected);
        }
        assert_eq!(statuses(&confirmed[40..]), [404; 3]);
        let details = confirmed[40..42].iter().map(|result| &result["problem"]["detail"]);
        assert!(details.clone().all(|detail| detail == "No such upload"), "{confirmed:?}");
    }
    let twice = json!({"ids": [ids[0], ids[1], ids[0]]});
    send(&ann, CONFIRM, twice).await.blames("ids");
    send(&ann, CONFIRM, json!({"ids": []})).await.blames("ids");
    send(&ann, CONFIRM, json!({"ids": vec![NOBODY; 101]})).await.blames("ids");
    send(&ann, CONFIRM, json!({"ids": [5]})).await.blames("ids[0]");
    server.stop().await;
}

#[tokio::test]
async fn a_store_that_fails_for_one_object_fails_its_confirmation_alone() {
    let server = Server::start().await;
    let made = create(&server, (0..20).map(|_| good("a"))).await;
    for result in &made {
        let key = result["upload"]["key"].as_str().unwrap();
        server.store.put(key, mp3(900, 1).into(), &PutOptions::default()).await.unwrap();
    }
    let down = || StoreError::Protocol("a secret".into());
    server.store.fail_next(Operation::Head, 3, down);
    let ids: Vec<_> = made.iter().map(|result| json!(id(result))).collect();
    let confirmed = results(&server.send("POST", CONFIRM, json!({"ids": ids})).await);
    let failed: Vec<_> = confirmed.iter().filter(|result| result["status"] == 502).collect();
    assert_eq!(failed.len(), 3);
    assert!(failed.iter().all(|result| !result.to_string().contains("secret")));
    assert_eq!(confirmed.iter().filter(|result| result["status"] == 200).count(), 17);
    server.stop().await;
}

#[tokio::test]
async fn an_upload_token_counts_each_upload_of_a_batch_and_reaches_no_others() {
    let server = Server::start().await;
    let theirs = create(&server, [good("a")]).await;
    let body = json!({"policy": "tracks", "max_uploads": 25, "attach_to": "album:1:cover",
        "metadata": {"form": "42"}});
    let token = server.send("POST", "/api/upload-tokens", body).await.json();
    let token = token["token"].as_str().unwrap();
    crate::support::log::secret(token);
    let send = |path: &str, key: &str, body: &Value| {
        let request = server.request("POST", &format!("/t/{token}{path}"));
        fetch(request.header("idempotency-key", key).json(body))
    };
    let items = || batch((0..10).map(|_| good("a")));
    let other = batch([json!({"filename": "a.mp3", "attach_to": "album:2:cover"}), good("b")]);
    let refused = results(&send(BATCH, "other", &other).await);
    assert_eq!(statuses(&refused), [403, 201]);
    // Sent concurrently, so that a count without a lock would see the same number.
    let bodies = [items(), items(), items()];
    let made =
        join_all(["a", "b", "c"].iter().zip(&bodies).map(|(key, body)| send(BATCH, key, body)));
    let made: Vec<Vec<Value>> = made.await.iter().map(results).collect();
    let all: Vec<&Value> = made.iter().flatten().collect();
    let created: Vec<_> = all.iter().filter(|result| result["status"] == 201).collect();
    assert_eq!((created.len(), all.len()), (24, 30));
    for result in &all {
        match result.get("upload") {
            Some(upload) => {
                assert_eq!(upload["attach_to"], "album:1:cover");
                assert_eq!(upload["metadata"], json!({"form": "42"}));
            }
            None => assert_eq!(problem(result), "/problems/token-exhausted"),
        }
    }
    for ((key, body), first) in ["a", "b", "c"].iter().zip(&bodies).zip(&made) {
        let again = results(&send(BATCH, key, body).await);
        assert_eq!(statuses(&again), statuses(first), "repeated");
    }
    let ids = json!({"ids": [id(&theirs[0]), id(created[0])]});
    let confirmed = results(&send(CONFIRM, "confirm", &ids).await);
    assert_eq!(statuses(&confirmed), [404, 409]);
    let history = format!("/t/{token}/api/uploads/{}/history", id(created[0]));
    server.get(&history).await.is_problem(403, "forbidden");
    server.stop().await;
}

/// The number of SQL statements that a request executes, and the results in its response.
async fn cost(server: &Server, request: impl Future<Output = Response>) -> (u64, Vec<Value>) {
    let before = server.app.db.statements();
    let response = request.await;
    (server.app.db.statements() - before, results(&response))
}

#[tokio::test]
async fn the_number_of_statements_does_not_depend_on_the_number_of_items() {
    let quota =
        Quota { pending_uploads: Some(1000), uploads_per_day: Some(1000), ..Quota::default() };
    let plain = Server::start().await;
    let bounded =
        Server::build(Duration::from_secs(20), quota, |_| SecurityConfig::default()).await;
    for (server, with_quota) in [(&plain, false), (&bounded, true)] {
        let mut costs = Vec::new();
        for len in [2, 100] {
            let items = |subject: &str| {
                let items = (0..len).map(|n| {
                    let mut item = good("a");
                    if !subject.is_empty() {
                        item["attach_to"] = json!(format!("{subject}:{len}:{n}"));
                    }
                    item
                });
                batch(items)
            };
            let (free, made) = cost(server, server.send("POST", BATCH, items(""))).await;
            let (attached, _) = cost(server, server.send("POST", BATCH, items("a"))).await;
            let key = format!("k{len}");
            let (claimed, _) = cost(server, keyed(server, &key, &items(""))).await;
            let (repeated, _) = cost(server, keyed(server, &key, &items(""))).await;
            for result in &made {
                let key = result["upload"]["key"].as_str().unwrap();
                server.store.put(key, mp3(900, 1).into(), &PutOptions::default()).await.unwrap();
            }
            let ids: Vec<_> = made.iter().map(id).collect();
            let confirm = server.send("POST", CONFIRM, json!({"ids": ids}));
            let (confirmed, _) = cost(server, confirm).await;
            costs.push([free, attached, claimed, repeated, confirmed]);
        }
        assert_eq!(costs[0], costs[1], "quota: {with_quota}");
        // On PostgreSQL, the lock of the owner is one more statement.
        let quota = if !with_quota {
            0
        } else if server.database.url.starts_with("sqlite") {
            2
        } else {
            3
        };
        // Creations: one statement for the rows; four for the subjects (two reads, an insert, an
        // update); four for the key. A repetition reads the key, its outcome and the rows, and
        // renews the rows. Confirmations read, lock and write the rows, and add the history.
        assert_eq!(costs[1], [1 + quota, 5 + quota, 5 + quota, 7, 4], "quota: {with_quota}");
    }
    plain.stop().await;
    bounded.stop().await;
}

/// A random item of a batch, and the status of its result.
fn item() -> impl Strategy<Value = (Value, u64)> {
    let known = "[a-c]".prop_map(|name| json!(format!("s:{name}")));
    prop_oneof![
        4 => "[a-z]{1,9}".prop_map(|name| (good(&name), 201)),
        2 => known.prop_map(|to| (json!({"filename": "a.mp3", "attach_to": to}), 201)),
        1 => (1u64..1000).prop_map(|size| (json!({"filename": "a.mp3", "size": size}), 201)),
        1 => Just((json!({"filename": "a.exe"}), 400)),
        1 => Just((json!({}), 400)),
        1 => Just((json!(null), 400)),
        1 => Just((json!({"filename": "a.mp3", "track_id": NOBODY}), 404)),
        1 => Just((json!({"filename": "a.mp3", "metadata": {"a": "b\u{0}"}}), 400)),
        1 => Just((json!({"filename": "a\u{0}.mp3"}), 400)),
    ]
}

#[test]
fn the_results_are_in_the_order_of_the_items_whatever_the_items_are() {
    let batches = prop::collection::vec(item(), 1..=100);
    fuzz(Server::start(), &batches, async |server, items| {
        let (bodies, expected): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let made = create(server, bodies.clone()).await;
        prop_assert_eq!(statuses(&made), expected);
        let mut ids = Vec::new();
        for (body, result) in bodies.iter().zip(&made) {
            if let Some(upload) = result.get("upload") {
                for field in ["filename", "attach_to", "size"] {
                    let given = body.get(field).unwrap_or(&Value::Null);
                    prop_assert_eq!(&upload[field], given);
                }
                ids.push(id(result).to_owned());
            }
        }
        prop_assert!(ids.is_sorted(), "uploads of a batch are listed in its order");
        Ok(())
    });
}
