//! The number of SQL statements of each route, which does not depend on the number of rows.

use serde_json::{Value, json};

use upload_coordinator::storage::{ObjectStore as _, PutOptions};

use super::kit::{Response, Server, fetch};
use crate::support::mp3;

/// The number of statements of a request with this response status.
async fn cost(server: &Server, status: u16, request: impl Future<Output = Response>) -> u64 {
    let before = server.app.db.statements();
    let response = request.await;
    assert_eq!(response.status, status, "{response:?}");
    server.app.db.statements() - before
}

fn id(response: &Response) -> String {
    response.json()["id"].as_str().unwrap().to_owned()
}

async fn upload(server: &Server, track: Option<&str>) -> String {
    let body = json!({"filename": "a.mp3", "track_id": track});
    id(&server.send("POST", "/api/uploads", body).await)
}

#[tokio::test]
async fn each_route_needs_a_known_number_of_statements() {
    let server = Server::start().await;
    let track = server.track().await;
    let waiting = upload(&server, Some(&track)).await;
    let arrived = upload(&server, Some(&track)).await;
    let key = server.get(&format!("/api/uploads/{arrived}")).await.json()["key"].clone();
    let key = key.as_str().unwrap();
    server.store.put(key, mp3(3000, 1).into(), &PutOptions::default()).await.unwrap();

    let create = json!({"filename": "a.mp3", "content_type": "audio/mpeg", "size": 5000});
    let track_body = json!({"title": "t", "artist_name": "a"});
    let track_path = format!("/api/tracks/{track}");
    let upload_path = format!("/api/uploads/{waiting}");
    let confirm = format!("/api/uploads/{arrived}/confirm");
    let of = |path: &str, tail: &str| format!("{path}{tail}");
    let none = Value::Object(serde_json::Map::new());
    let mut over = Vec::new();
    // Each route with its maximum number of statements.
    for (method, path, body, status, most) in [
        ("GET", "/healthz".to_owned(), None, 200, 0),
        ("POST", "/api/uploads".to_owned(), Some(create.clone()), 201, 1),
        ("GET", upload_path.clone(), None, 200, 1),
        ("GET", "/api/uploads".to_owned(), None, 200, 1),
        ("POST", of(&upload_path, "/presign"), Some(none.clone()), 200, 5),
        ("POST", confirm.clone(), Some(none.clone()), 200, 9),
        ("GET", of(&upload_path, "/history"), None, 200, 2),
        ("POST", confirm, Some(none.clone()), 200, 2),
        ("POST", "/api/tracks".to_owned(), Some(track_body.clone()), 201, 1),
        ("GET", track_path.clone(), None, 200, 2),
        ("GET", "/api/tracks".to_owned(), None, 200, 2),
        ("PATCH", track_path.clone(), Some(json!({"title": "u"})), 200, 4),
        ("POST", of(&track_path, "/presigned-url"), Some(create), 201, 5),
        ("GET", of(&track_path, "/file"), None, 307, 2),
        ("DELETE", upload_path, None, 204, 6),
    ] {
        let request = async {
            match &body {
                Some(body) => server.send(method, &path, body.clone()).await,
                None => fetch(server.request(method, &path)).await,
            }
        };
        let made = cost(&server, status, request).await;
        if made > most {
            over.push(format!("{method} {path}: {made} statements, not {most} at most"));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
    server.stop().await;
}

#[tokio::test]
async fn the_number_of_statements_of_a_list_does_not_depend_on_its_length() {
    let server = Server::start().await;
    let mut costs = Vec::new();
    for _ in 0..2 {
        for _ in 0..15 {
            let track = server.track().await;
            upload(&server, Some(&track)).await;
        }
        let mut of_this = Vec::new();
        for path in ["/api/tracks", "/api/uploads", "/api/uploads?status=pending"] {
            of_this.push(cost(&server, 200, server.get(path)).await);
        }
        costs.push(of_this);
    }
    assert_eq!(costs[0], costs[1]);
    server.stop().await;
}

#[tokio::test]
async fn concurrent_polls_share_statements() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(upload(&server, None).await);
    }
    let before = server.app.db.statements();
    let polls = (0..64).map(|n| {
        let (server, id) = (&server, ids[n % ids.len()].clone());
        async move {
            let response = server.get(&format!("/api/uploads/{id}")).await;
            (id, response)
        }
    });
    for (expected, response) in futures_util::future::join_all(polls).await {
        assert_eq!((response.status.as_u16(), id(&response)), (200, expected));
    }
    let made = server.app.db.statements() - before;
    assert!(made < 64, "{made} statements for 64 polls at once");
    server.stop().await;
}

#[tokio::test]
async fn concurrent_creations_share_statements_across_tracks() {
    let server = Server::start().await;
    let mut tracks = Vec::new();
    for _ in 0..8 {
        tracks.push(server.track().await);
    }
    let before = server.app.db.statements();
    let creations = (0..64).map(|n| {
        let body = json!({"filename": "a.mp3", "track_id": tracks[n % tracks.len()]});
        server.send("POST", "/api/uploads", body)
    });
    for made in futures_util::future::join_all(creations).await {
        assert_eq!(made.status, 201, "{made:?}");
    }
    let made = server.app.db.statements() - before;
    assert!(made < 3 * 64, "{made} statements for 64 creations at once");
    for track in &tracks {
        let list = server.get(&format!("/api/uploads?track_id={track}")).await.json();
        assert_eq!(list["items"].as_array().map(Vec::len), Some(8), "{list}");
    }
    server.stop().await;
}
