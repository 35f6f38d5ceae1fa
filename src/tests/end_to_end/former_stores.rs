//! Stores that hold only old files: no longer configured, or not reachable when the service starts.

use serde_json::{Value, json};

use crate::storage::servers::Subject;
use crate::support::database::TestDatabase;
use crate::support::live::{Live, text};
use crate::support::mp3;

/// `default` is the store of new files, `old` the store of earlier ones.
struct Setup {
    old: Subject,
    new: Subject,
    database: TestDatabase,
}

impl Setup {
    /// The service with these changes, and with `storage.old` if `with_old`. It is ready.
    async fn service(&self, with_old: bool, changes: &[(&str, &str)]) -> Live {
        let old = self.old.configuration().into_iter().filter(|_| with_old);
        let old: Vec<(String, String)> =
            old.map(|(key, value)| (format!("storage.old.{key}"), value)).collect();
        let mut all =
            vec![("database.url", &*self.database.url), ("policies.tracks.prefix", "former/")];
        all.extend(old.iter().map(|(key, value)| (&**key, &**value)));
        all.extend_from_slice(changes);
        Live::serving(&self.new.configuration(), &all).await
    }
}

/// Uploads and confirms a file. Returns the path of the upload.
async fn upload(live: &Live, seed: u8) -> String {
    let body = json!({"filename": "a.mp3", "content_type": "audio/mpeg", "size": 900});
    let (status, upload) = live.post("/api/uploads", body).await;
    assert_eq!(status, 201, "{upload}");
    assert!(live.send_bytes(&upload["request"], mp3(900, seed)).await.status().is_success());
    let path = format!("/api/uploads/{}", text(&upload, "id"));
    let (status, done) = live.post(&format!("{path}/confirm"), json!({})).await;
    assert_eq!((status, &done["status"]), (200, &json!("uploaded")), "{done}");
    path
}

async fn file(live: &Live, path: &str) -> reqwest::Response {
    live.http.get(format!("{}{path}/file", live.url)).send().await.unwrap()
}

async fn expect_ready(live: &Live) {
    let (status, ready) = live.get("/readyz").await;
    assert_eq!(status, 200, "{ready}");
}

#[tokio::test]
async fn a_store_of_old_files_only_never_keeps_the_service_from_starting() {
    let setup = Setup {
        old: Subject::embedded_server().await,
        new: Subject::embedded_server().await,
        database: TestDatabase::create().await,
    };
    let mut before = setup.service(true, &[("policies.tracks.store", "old")]).await;
    let known = upload(&before, 1).await;
    assert_eq!(before.terminate().await, Some(0));

    // The old store is no longer configured.
    let mut without = setup.service(false, &[]).await;
    let gone = file(&without, &known).await;
    assert_eq!(gone.status(), 503);
    let problem: Value = gone.json().await.unwrap();
    assert_eq!(problem["type"], "/problems/store-unconfigured", "{problem}");
    assert!(text(&problem, "detail").contains("storage.old"), "{problem}");
    let fresh = upload(&without, 2).await;
    let run = without.reconcile("audit").await;
    assert_eq!((&run["status"], &run["counters"]["missing"]), (&json!("failed"), &json!(0)));
    assert!(text(&run, "error").contains("storage.old"), "{run}");
    expect_ready(&without).await;
    assert_eq!(without.terminate().await, Some(0));

    // The old store is configured, but not reachable.
    let nobody = ("storage.old.endpoint", "http://127.0.0.1:1");
    let mut down = setup.service(true, &[nobody]).await;
    expect_ready(&down).await;
    assert_eq!(file(&down, &fresh).await.bytes().await.unwrap(), mp3(900, 2));
    upload(&down, 3).await;
    expect_ready(&down).await;
    assert_eq!(down.terminate().await, Some(0));

    let again = setup.service(true, &[]).await;
    assert_eq!(file(&again, &known).await.bytes().await.unwrap(), mp3(900, 1));
    assert_eq!(again.reconcile("audit").await["status"], "succeeded");
}
