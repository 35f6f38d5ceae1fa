//! Every route requires authentication, scope and ownership. The tests walk the OpenAPI document,
//! so that a new route is included.

use serde_json::{Value, json};
use upload_coordinator::domain::{Scope, Scopes};

use super::kit::{Response, Server, fetch};
use crate::support::mp3;

/// One operation of the OpenAPI document.
struct Operation {
    method: String,
    path: String,
    scope: Option<String>,
    body: Option<Value>,
}

async fn operations(server: &Server) -> Vec<Operation> {
    let document = server.get("/api/schema").await.json();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].as_array().unwrap();
            let scope = security.iter().find_map(|one| one["bearer"][0].as_str());
            let method = method.to_uppercase();
            let body = example(&document, operation);
            let scope = scope.map(str::to_owned);
            found.push(Operation { method, path: path.clone(), scope, body });
        }
    }
    found
}

/// The documented example of an operation's JSON body.
fn example(document: &Value, operation: &Value) -> Option<Value> {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let mut references = vec![schema["$ref"].as_str()];
    let any = schema["oneOf"].as_array().into_iter().flatten();
    references.extend(any.map(|one| one["$ref"].as_str()));
    let reference = references.into_iter().flatten().next()?;
    let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
    Some(schema["example"].clone()).filter(|example| !example.is_null())
}

impl Operation {
    async fn send(&self, server: &Server, ids: &Ids, token: Option<&str>) -> Response {
        let id = if self.path.contains("/api/tracks") {
            &ids.track
        } else if self.path.contains("/api/uploads") || self.path.ends_with("/up/{id}") {
            &ids.upload
        } else if self.path.contains("/api/upload-tokens") {
            &ids.token
        } else {
            &ids.run
        };
        let path = self.path.replace("{subject}", &format!("track:{}", ids.track));
        let path = path.replace("{id}", id).replace("{filename}", "song.mp3");
        let path = path.replace("{name}", "validation");
        assert!(!path.contains('{'), "{path}: add a value for this parameter here");
        let path = match self.path.as_str() {
            "/api/uploads/{id}" if self.method == "GET" => format!("{path}?wait=1"),
            _ => path,
        };
        let mut request = server.request(&self.method, &path);
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        if let Some(body) = &self.body {
            request = request.json(body);
        } else if path.contains("/upload/") || path.ends_with("/content") {
            request = request.body(mp3(2000, 1)).header("content-type", "audio/mpeg");
        }
        fetch(request).await
    }
}

/// The resources of the owner Ann.
struct Ids {
    track: String,
    upload: String,
    token: String,
    run: String,
}

async fn belongings(server: &Server, token: &str) -> Ids {
    let send = async |path: &str, body: Value| {
        let request = server.request("POST", path).header("authorization", token).json(&body);
        let found = fetch(request).await;
        assert!(found.status.is_success(), "{found:?}");
        found.json()
    };
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let track = id(&send("/api/tracks", json!({"title": "t", "artist_name": "a"})).await);
    // A stored file, so that the redirect would succeed.
    let put = server.request("PUT", &format!("/api/tracks/{track}/upload/song.mp3"));
    let put = put.header("authorization", token).header("content-type", "audio/mpeg");
    let stored = fetch(put.body(mp3(3000, 1))).await;
    assert_eq!(stored.status, 200, "{stored:?}");
    let body = json!({"filename": "a.mp3", "size": 5000, "strategy": "multipart"});
    let upload = id(&send("/api/uploads", body).await);
    let token = id(&send("/api/upload-tokens", json!({"policy": "tracks"})).await);
    let run = "/api/admin/reconciliations?wait=true";
    let run = id(&send(run, json!({"mode": "incremental", "dry_run": true})).await);
    Ids { track, upload, token, run }
}

async fn state(server: &Server, ids: &Ids, token: &str) -> [Value; 3] {
    let get = async |path: String| {
        let found = fetch(server.request("GET", &path).header("authorization", token)).await;
        assert_eq!(found.status, 200, "{found:?}");
        found.json()
    };
    [
        get(format!("/api/tracks/{}", ids.track)).await,
        get(format!("/api/uploads/{}", ids.upload)).await,
        get("/api/upload-tokens".to_owned()).await,
    ]
}

#[tokio::test]
async fn every_route_needs_a_token_with_its_scope() {
    let server = Server::keyed().await;
    let ann = server.key("ann", Scopes::all()).await;
    let ids = belongings(&server, &ann).await;
    let before = state(&server, &ids, &ann).await;
    let operations = operations(&server).await;
    assert!(operations.len() > 25 && operations.iter().filter(|o| o.scope.is_some()).count() > 20);
    for operation in &operations {
        let what = format!("{} {}", operation.method, operation.path);
        let Some(scope) = &operation.scope else {
            let open = [
                "/healthz",
                "/readyz",
                "/metrics",
                "/api/schema",
                "/problems",
                "/demo",
                "/api/events/s3",
            ];
            assert!(open.iter().any(|path| operation.path.starts_with(path)), "{what} is open");
            continue;
        };
        let unknown = operation.send(&server, &ids, None).await;
        assert_eq!(unknown.status, 401, "{what}: {unknown:?}");
        let scope: Scope = scope.parse().unwrap();
        let others = Scope::ALL.into_iter().filter(|other| *other != scope).collect();
        let lacking = server.key("ann", others).await;
        let refused = operation.send(&server, &ids, Some(&lacking)).await;
        assert_eq!(refused.status, 403, "{what}: {refused:?}");
        assert_eq!(refused.json()["scope"], scope.name());
    }
    assert_eq!(state(&server, &ids, &ann).await, before, "it had no effect");
    server.stop().await;
}

#[tokio::test]
async fn another_owner_gets_404_for_everything_and_changes_nothing() {
    let server = Server::keyed().await;
    let ann = server.key("ann", Scopes::all()).await;
    let ids = belongings(&server, &ann).await;
    let before = state(&server, &ids, &ann).await;
    let keys = server.store.keys();
    // All scopes except `admin`, which covers the whole service.
    let most = Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).collect();
    let bob = server.key("bob", most).await;
    let mut walked = 0;
    for operation in operations(&server).await {
        if operation.scope.as_deref().is_none_or(|scope| scope == "admin") {
            continue;
        }
        let what = format!("{} {}", operation.method, operation.path);
        let found = operation.send(&server, &ids, Some(&bob)).await;
        if operation.path.contains("{id}") || operation.path.contains("{subject}") {
            found.is_problem(404, "not-found");
            // Exactly the response for an unknown id.
            let nobody = "0190a6f2-7b3c-7def-8123-456789abcdef".to_owned();
            let ids = Ids {
                track: nobody.clone(),
                upload: nobody.clone(),
                token: nobody.clone(),
                run: nobody,
            };
            let none = operation.send(&server, &ids, Some(&bob)).await;
            assert_eq!(none.json()["detail"], found.json()["detail"], "{what}");
            walked += 1;
        } else {
            assert!(found.status.is_success(), "{what}: {found:?}");
            for id in [&ids.track, &ids.upload] {
                assert!(!found.text.contains(id.as_str()), "{what}: {found:?}");
            }
        }
    }
    assert!(walked >= 15, "{walked}");
    let theirs = json!({"filename": "a.mp3", "track_id": ids.track});
    let request = server.request("POST", "/api/uploads").header("authorization", &bob);
    fetch(request.json(&theirs)).await.is_problem(404, "not-found");
    let path = format!("/api/uploads?track_id={}", ids.track);
    let found = fetch(server.request("GET", &path).header("authorization", &bob)).await;
    assert_eq!(found.json()["items"], json!([]));
    assert_eq!(state(&server, &ids, &ann).await, before);
    assert_eq!(server.store.keys(), keys, "nothing was stored or deleted");
    server.stop().await;
}

/// All routes that upload tokens may use. Every other route must refuse them.
const OF_UPLOAD_TOKENS: [&str; 16] = [
    "GET /api/uploads",
    "POST /api/uploads",
    "POST /api/uploads/batch",
    "POST /api/uploads/batch/confirm",
    "GET /api/uploads/{id}",
    "DELETE /api/uploads/{id}",
    "GET /api/uploads/{id}/events",
    "POST /api/uploads/{id}/content",
    "PUT /api/uploads/{id}/content",
    "GET /api/uploads/{id}/file",
    "POST /api/uploads/{id}/presign",
    "POST /api/uploads/{id}/confirm",
    "GET /api/uploads/{id}/parts",
    "POST /api/uploads/{id}/parts",
    "POST /api/uploads/{id}/complete",
    "PUT /up/{id}",
];

#[tokio::test]
async fn an_upload_token_reaches_its_own_uploads_and_no_other_route() {
    let server = Server::keyed().await;
    let ann = server.key("ann", Scopes::all()).await;
    let ids = belongings(&server, &ann).await;
    let request = server.request("POST", "/api/upload-tokens").header("authorization", &ann);
    let made = fetch(request.json(&json!({"policy": "tracks"}))).await.json();
    let secret = made["token"].as_str().unwrap();
    let token = format!("Bearer {secret}");
    let before = state(&server, &ids, &ann).await;
    let keys = server.store.keys();
    let mut open = Vec::new();
    for operation in operations(&server).await {
        let what = format!("{} {}", operation.method, operation.path);
        let by_path = Operation { path: format!("/t/{secret}{}", operation.path), ..operation };
        let prefixed = by_path.send(&server, &ids, None).await;
        let operation =
            Operation { path: by_path.path.replace(&format!("/t/{secret}"), ""), ..by_path };
        if !OF_UPLOAD_TOKENS.contains(&what.as_str()) {
            prefixed.is_problem(403, "forbidden");
            // Routes that need no scope ignore the header.
            if operation.scope.is_some() {
                let found = operation.send(&server, &ids, Some(&token)).await;
                found.is_problem(403, "forbidden");
            }
            continue;
        }
        let found = operation.send(&server, &ids, Some(&token)).await;
        for found in [prefixed, found] {
            if operation.path.contains("{id}") {
                // The owner's upload, but not the token's.
                found.is_problem(404, "not-found");
            } else {
                assert!(found.status.is_success(), "{what}: {found:?}");
                for id in [&ids.track, &ids.upload] {
                    assert!(!found.text.contains(id.as_str()), "{what}: {found:?}");
                }
            }
        }
        open.push(what);
    }
    open.sort();
    let mut expected = OF_UPLOAD_TOKENS.to_vec();
    expected.sort_unstable();
    assert_eq!(open, expected);
    let listed = state(&server, &ids, &ann).await;
    // The list of upload tokens is not compared, because the requests above created uploads with
    // the token, and the list contains their number.
    assert_eq!(listed[..2], before[..2]);
    assert_eq!(server.store.keys(), keys, "nothing was stored or deleted");
    server.stop().await;
}
