//! Health, readiness and documentation of the service, and its own failures.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use upload_coordinator::storage::StoreError;
use upload_coordinator::storage::cause::Cause;
use upload_coordinator::storage::memory::Operation;

use super::kit::{Response, Server, fetch};
use crate::support::wait::wait_for;

#[tokio::test]
async fn readiness_names_each_check_and_is_503_if_one_fails() {
    let server = Server::start().await;
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status, 200, "{ready:?}");
    let checks = json!({"database": "ok", "migrations": "ok", "bucket.default": "ok"});
    let capabilities = json!({"default": server.app.stores["default"].capabilities});
    let expected = json!({"ready": true, "status": "ok", "checks": checks,
        "capabilities": capabilities});
    assert_eq!(ready.json(), expected);
    server.store.drop_bucket();
    let down = until(&server, |found| found.status != 200).await;
    down.is_problem(503, "not-ready");
    let sentence = Cause::NoSuchBucket.sentence();
    assert_eq!(down.json()["checks"]["bucket.default"], sentence);
    assert_eq!(down.json()["checks"]["database"], "ok");
    assert!(!down.header("retry-after").is_empty());
    server.app.db.migrate_down(1).await.unwrap();
    until(&server, |found| found.json()["checks"]["migrations"] == "pending or unknown").await;
    assert_eq!(server.get("/healthz").await.json(), json!({"status": "ok"}));
    server.stop().await;
}

/// The first readiness response that fulfils the condition. Results are reused for a second.
async fn until(server: &Server, condition: impl Fn(&Response) -> bool) -> Response {
    wait_for("the readiness", async || {
        Some(server.get("/readyz").await).filter(|found| condition(found))
    })
    .await
}

#[tokio::test]
async fn concurrent_readiness_requests_check_the_store_about_once_per_second() {
    let server = Arc::new(Server::start().await);
    let bucket_checks = || server.store.calls(Operation::CheckBucket);
    let gate = server.store.hold(Operation::CheckBucket);
    let before = bucket_checks();
    let askers = (0..100).map(|_| {
        let server = server.clone();
        tokio::spawn(async move { server.get("/readyz").await })
    });
    let askers: Vec<_> = askers.collect();
    gate.next_call().await;
    gate.open();
    let began = Instant::now();
    for asker in askers {
        assert_eq!(asker.await.unwrap().status, 200);
    }
    for _ in 0..100 {
        assert_eq!(server.get("/readyz").await.status, 200);
    }
    // One check while the gate was closed, and one check per second after that.
    let most = 1 + usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!((1..=most).contains(&(bucket_checks() - before)), "{}", bucket_checks() - before);
}

#[tokio::test]
async fn a_store_that_hangs_gets_one_request_and_every_caller_a_timely_response() {
    let server = Arc::new(Server::start().await);
    let _gate = server.store.hold(Operation::CheckBucket);
    let before = server.store.calls(Operation::CheckBucket);
    let askers = (0..20).map(|_| {
        let server = server.clone();
        tokio::spawn(async move { server.get("/readyz").await })
    });
    let askers: Vec<_> = askers.collect();
    // Other requests do not wait for the store.
    assert_eq!(server.get("/healthz").await.status, 200);
    for asker in askers {
        let found = asker.await.unwrap();
        found.is_problem(503, "not-ready");
        assert_eq!(found.json()["checks"]["bucket.default"], "does not respond in time");
    }
    let bucket_checks = server.store.calls(Operation::CheckBucket) - before;
    // On a slow machine, some requests arrive after the first check has failed, and cause a second
    // one.
    assert!((1..=2).contains(&bucket_checks), "{bucket_checks}");
}

#[tokio::test]
async fn an_unavailable_store_is_503_without_internals() {
    let server = Server::start().await;
    let made = server.send("POST", "/api/uploads", json!({"filename": "a.mp3"})).await.json();
    let path = format!("/api/uploads/{}/confirm", made["id"].as_str().unwrap());
    server
        .store
        .fail_next(Operation::Head, 1, || StoreError::Unavailable("secret 10.0.0.1".into()));
    let down = fetch(server.request("POST", &path)).await;
    down.is_problem(503, "unavailable");
    assert_eq!(down.header("retry-after"), "5");
    server.store.fail_next(Operation::Head, 1, || StoreError::AccessDenied("secret key".into()));
    let denied = fetch(server.request("POST", &path)).await;
    denied.is_problem(502, "store-error");
    assert!(!down.text.contains("secret") && !denied.text.contains("secret"));
    server.stop().await;
}

#[tokio::test]
async fn every_documented_operation_has_a_route_and_the_pages_load_only_from_this_service() {
    let server = Server::start().await;
    let document = server.get("/api/schema").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let real = path.replace("{id}", "x").replace("{filename}", "a.mp3");
        for (method, operation) in item.as_object().unwrap() {
            let found = fetch(server.request(&method.to_uppercase(), &real)).await;
            assert_ne!(found.status, 405, "{method} {path}");
            assert!(!found.text.contains("There is no such path"), "{method} {path}");
            assert!(ids.insert(operation["operationId"].to_string()), "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path}");
        }
        // The document contains every method that the path allows.
        let wrong = fetch(server.request("BREW", &real)).await;
        let allow = wrong.header("allow").split(", ").filter(|name| *name != "HEAD").count();
        assert_eq!(allow, item.as_object().map_or(0, serde_json::Map::len), "{path}");
    }
    assert_eq!(refs(&document).into_iter().find(|path| document.pointer(path).is_none()), None);

    for path in ["/api/schema/swagger-ui", "/api/schema/swagger-ui/"] {
        let page = server.get(path).await;
        assert_eq!(page.status, 200);
        assert!(page.header("content-type").starts_with("text/html"));
        assert!(page.text.contains("<base href=\"/api/schema/swagger-ui/\">"));
        assert!(!page.text.contains("https://"), "{}", page.text);
    }
    let script = server.get("/api/schema/swagger-ui/swagger-initializer.js").await;
    assert!(script.text.contains("/api/schema\"") && script.text.contains("\"none\""));
    let bundle = server.request("GET", "/api/schema/swagger-ui/swagger-ui-bundle.js").send().await;
    let bundle = bundle.unwrap();
    assert_eq!(bundle.status(), 200);
    assert_eq!(bundle.headers()["content-encoding"], "gzip");
    server.stop().await;
}

/// All references in the document, as JSON pointers.
fn refs(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(name, value)| match value.as_str() {
                Some(text) if name == "$ref" => vec![text.trim_start_matches('#').to_owned()],
                _ => refs(value),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(refs).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn the_demo_page_is_served_only_if_it_is_enabled() {
    let server = Server::start().await;
    for path in ["/demo", "/demo/", "/demo/client.js"] {
        server.get(path).await.is_problem(404, "not-found");
    }
    server.stop().await;
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = Server::start().await;
    let found = fetch(server.request("HEAD", "/api/tracks")).await;
    assert_eq!((found.status.as_u16(), found.text.as_str()), (200, ""));
    assert_eq!(found.header("content-type"), "application/json");
    server.stop().await;
}
