//! Content negotiation by `Accept`.

use serde_json::{Value, json};
use upload_coordinator::domain::Scopes;

use super::kit::{Response, Server, fetch};

async fn reading(server: &Server, method: &str, path: &str, accept: &str) -> Response {
    fetch(server.request(method, path).header("accept", accept)).await
}

/// Every operation of the OpenAPI document: method, path and description.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            found.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    found
}

fn real(path: &str) -> String {
    let id = "0190a6f2-7b3c-7def-8123-456789abcdef";
    let path = path.replace("{subject}", &format!("track:{id}"));
    path.replace("{id}", id).replace("{filename}", "a.mp3").replace("{name}", "validation")
}

#[tokio::test]
async fn documented_operations_refuse_a_client_that_accepts_neither_the_response_nor_problems() {
    let server = Server::start().await;
    let document = server.get("/api/schema").await.json();
    let (mut refusing, mut silent) = (0, 0);
    for (method, path, operation) in operations(&document) {
        let refused = reading(&server, &method, &real(&path), "image/png, image/*;q=0.5").await;
        let by_itself = path.ends_with("/file");
        if operation["responses"]["406"].is_object() && !by_itself {
            refused.is_problem(406, "not-acceptable");
            refusing += 1;
        } else {
            assert_ne!(refused.status, 406, "{method} {path}");
            silent += 1;
        }
        // The documented media types of the responses, and the media type of errors.
        let responses = operation["responses"].as_object().unwrap();
        let own = responses.iter().filter(|(status, _)| status.starts_with('2'));
        let own = own.filter_map(|(_, response)| response["content"].as_object());
        let own = own.flat_map(|content| content.keys().map(String::as_str));
        for accept in own.chain(["application/problem+json", "*/*", "text/*, */*;q=0.1"]) {
            // Most requests are refused for another reason: they have no body, or there is no such
            // resource.
            let found = reading(&server, &method, &real(&path), accept).await;
            assert_ne!(found.status, 406, "{method} {path}: {accept}");
        }
    }
    assert!(refusing > 25 && silent > 3, "{refusing} {silent}");
    server.stop().await;
}

#[tokio::test]
async fn a_406_changes_nothing_and_names_the_media_type() {
    let server = Server::start().await;
    let body = json!({"title": "t", "artist_name": "a"});
    let request = server.request("POST", "/api/tracks").header("accept", "text/html");
    let refused = fetch(request.json(&body)).await;
    refused.is_problem(406, "not-acceptable");
    assert_eq!(
        refused.json()["detail"],
        "Accept must allow application/json, the media type of the response"
    );
    assert_eq!(server.get("/api/tracks").await.json()["items"], json!([]));
    let request = server.request("POST", "/api/tracks").header("accept", "application/json;q=0.2");
    assert_eq!(fetch(request.json(&body)).await.status, 201);
    // A weight of zero refuses a media type, and several header lines form one list.
    for accept in ["*/*;q=0", "application/*;q=0, */*;q=0.000"] {
        reading(&server, "GET", "/api/tracks", accept).await.is_problem(406, "not-acceptable");
    }
    let both = server.request("GET", "/api/tracks").header("accept", "text/html");
    assert_eq!(fetch(both.header("accept", "application/json")).await.status, 200);
    let head = reading(&server, "HEAD", "/api/tracks", "text/html").await;
    assert_eq!(head.status, 406);
    server.stop().await;
}

#[tokio::test]
async fn errors_are_problem_documents_whatever_accept_says() {
    let server = Server::start().await;
    for (method, path, status, name) in [
        ("GET", "/nowhere", 404, "not-found"),
        ("BREW", "/api/tracks", 405, "method-not-allowed"),
        ("DELETE", "/api/tracks/x", 404, "not-found"),
    ] {
        reading(&server, method, path, "text/html").await.is_problem(status, name);
    }
    let found = reading(&server, "GET", "/api/tracks?limit=0", "application/json").await;
    found.is_problem(400, "validation");
    server.stop().await;
}

#[tokio::test]
async fn an_unauthenticated_request_is_401_before_406() {
    let server = Server::keyed().await;
    let stranger = reading(&server, "GET", "/api/tracks", "text/html").await;
    stranger.is_problem(401, "unauthorized");
    let ann = server.key("ann", Scopes::all()).await;
    let request = server.request("GET", "/api/tracks").header("authorization", ann);
    fetch(request.header("accept", "text/html")).await.is_problem(406, "not-acceptable");
    server.stop().await;
}

#[tokio::test]
async fn a_player_that_accepts_audio_is_redirected_to_the_file() {
    let server = Server::start().await;
    let track = server.track().await;
    let path = format!("/api/tracks/{track}/upload/a.mp3");
    let put = server.request("PUT", &path).header("content-type", "audio/mpeg");
    assert_eq!(fetch(put.body(crate::support::mp3(2000, 1))).await.status, 200);
    let path = format!("/api/tracks/{track}/file");
    assert_eq!(reading(&server, "GET", &path, "audio/*").await.status, 307);
    let path = format!("{path}?redirect=false");
    reading(&server, "GET", &path, "audio/*").await.is_problem(406, "not-acceptable");
    assert_eq!(reading(&server, "GET", &path, "application/json").await.status, 200);
    server.stop().await;
}
