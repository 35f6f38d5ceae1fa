//! An operator verifies uploads again: `/api/admin/uploads/verify` and `/{id}/verify`.

use serde_json::json;
use upload_coordinator::domain::{Scope, Scopes};
use upload_coordinator::storage::{ObjectStore as _, PutOptions};

use super::kit::{Server, fetch};
use crate::support::mp3;

const NOBODY: &str = "0190a6f2-7b3c-7def-8123-456789abcdef";

#[tokio::test]
async fn an_operator_verifies_an_upload_of_any_owner() {
    let server = Server::keyed().await;
    let ann = server.key("ann", Scopes::all()).await;
    let admin = server.key("ops", Scopes::from_iter([Scope::Admin])).await;
    let send = async |path: &str, token: &str, body: serde_json::Value| {
        let request = server.request("POST", path).header("authorization", token);
        fetch(request.json(&body)).await
    };
    // The first run writes the marker of the bucket, because this server was started without it.
    let runs = "/api/admin/reconciliations?wait=true";
    assert_eq!(send(runs, &admin, json!({"mode": "audit"})).await.json()["status"], "succeeded");
    let upload = send("/api/uploads", &ann, json!({"filename": "a.mp3", "strategy": "put"})).await;
    let upload = upload.json();
    let (id, key) = (upload["id"].as_str().unwrap(), upload["key"].as_str().unwrap());
    let write = async |bytes: Vec<u8>| {
        server.store.put(key, bytes.into(), &PutOptions::default()).await.unwrap();
    };
    let verify = format!("/api/admin/uploads/{id}/verify");
    send(&verify, &admin, json!({})).await.is_problem(409, "state-conflict");
    write(mp3(900, 1)).await;
    let confirm = format!("/api/uploads/{id}/confirm");
    assert_eq!(send(&confirm, &ann, json!({})).await.json()["status"], "uploaded");
    write(mp3(901, 2)).await;
    let run = send(runs, &admin, json!({"mode": "audit"})).await.json();
    assert_eq!(run["counters"]["overwritten"], 1);
    let refused = send(&verify, &admin, json!({})).await;
    refused.is_problem(409, "state-conflict");
    assert!(refused.json()["detail"].as_str().unwrap().contains("accept_changed"), "{refused:?}");
    let bulk = "/api/admin/uploads/verify";
    let counts = send(bulk, &admin, json!({"run_id": run["id"], "accept_changed": true})).await;
    let expected = json!({"verified": 1, "unchanged": 0, "refused": 0, "absent": 0, "failed": 0});
    assert_eq!((counts.status.as_u16(), counts.json()), (200, expected));
    let verified = fetch(server.request("POST", &verify).header("authorization", &admin)).await;
    assert_eq!((verified.status.as_u16(), &verified.json()["status"]), (200, &"uploaded".into()));
    send(bulk, &admin, json!({})).await.blames("run_id");
    send(bulk, &admin, json!({"run_id": "x"})).await.blames("run_id");
    send(bulk, &admin, json!({"run_id": NOBODY})).await.is_problem(404, "not-found");
    send(&verify, &admin, json!({"accept_changed": 1})).await.blames("accept_changed");
    for id in [NOBODY, "x"] {
        let path = format!("/api/admin/uploads/{id}/verify");
        send(&path, &admin, json!({})).await.is_problem(404, "not-found");
    }
    server.stop().await;
}
