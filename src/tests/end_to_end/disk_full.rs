//! The disk with the database and the store of `dev` is full. Linux only: the disk is a tmpfs that
//! only the process of the service sees.

use std::fs::{File, OpenOptions};
use std::io::Write as _;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::live::{Live, read, text};
use crate::support::mp3;
use crate::support::wait::wait_for;

/// Fills the disk with the file `path`, and leaves `left` bytes free.
fn fill(path: &std::path::Path, left: u64) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    for len in [64 << 10, 4096, 1] {
        while file.write_all(&vec![0; len]).is_ok() {}
    }
    let file = File::options().write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len.saturating_sub(left)).unwrap();
}

async fn create(live: &Live) -> (u16, Value) {
    live.post("/api/tracks", json!({"title": "A song", "artist_name": "Someone"})).await
}

/// Waits until readiness has this status, and returns its checks.
async fn checks(live: &Live, status: u16) -> Value {
    wait_for("the readiness", async || {
        let (found, ready) = live.get("/readyz").await;
        (found == status).then_some(ready["checks"].clone())
    })
    .await
}

#[tokio::test]
async fn a_full_database_is_a_plain_problem_and_readyz_names_it_until_there_is_space() {
    let Some(live) = Live::dev_on_small_disk(16).await else { return };
    live.track().await;
    let filler = live.seen_by_process(&live.data_folder()).join("filler");
    fill(&filler, 0);
    // The file of the database still has room for a few more rows.
    let mut created = Vec::new();
    let problem = wait_for("a write that does not fit", async || {
        let (status, body) = create(&live).await;
        if status == 201 {
            created.push(text(&body, "id"));
            return None;
        }
        Some((status, body))
    })
    .await;
    assert_eq!(problem.0, 503, "{problem:?}");
    assert_eq!(problem.1["type"], "/problems/storage-full", "{problem:?}");
    let checks_then = checks(&live, 503).await;
    assert!(text(&checks_then, "database").contains("full"), "{checks_then}");
    assert_eq!(live.get("/api/tracks").await.0, 200, "reads go on");

    std::fs::remove_file(&filler).unwrap();
    checks(&live, 200).await;
    assert_eq!(create(&live).await.0, 201);
    for id in created {
        let path = format!("/api/tracks/{id}");
        assert_eq!(live.get(&path).await.0, 200, "{id} was answered with 201");
    }
}

#[tokio::test]
async fn a_full_store_is_a_plain_problem_and_readyz_names_it() {
    let Some(live) = Live::dev_on_small_disk(24).await else { return };
    let (track, other) = (live.track().await, live.track().await);
    let filler = live.seen_by_process(&live.data_folder()).join("filler");
    // The database has free space, but there is no space for a new file.
    fill(&filler, 2 << 20);
    let request = live.presign(&other, json!({})).await;
    assert_eq!(live.send_bytes(&request, mp3(4 << 20, 1)).await.status(), 507);
    let upload = async || {
        let url = format!("{}/api/tracks/{track}/upload/song.mp3", live.url);
        let sent = live.http.request(Method::PUT, url).body(mp3(4 << 20, 2)).send().await;
        read(sent.unwrap()).await
    };
    let (status, problem) = upload().await;
    assert_eq!((status, &problem["type"]), (503, &json!("/problems/storage-full")), "{problem}");
    let found = checks(&live, 503).await;
    assert!(text(&found, "bucket.default").starts_with("the store is full: "), "{found}");

    std::fs::remove_file(&filler).unwrap();
    let (status, track) = upload().await;
    assert_eq!((status, &track["status"]), (200, &json!("uploaded")), "{track}");
    checks(&live, 200).await;
}
