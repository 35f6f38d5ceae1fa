//! `kill -9` and a normal shutdown: neither loses anything.

use reqwest::Method;
use serde_json::json;

use crate::support::live::{Live, text};
use crate::support::mp3;
use crate::support::wait::wait_for;

#[tokio::test]
async fn a_kill_between_presign_and_upload_loses_nothing() {
    let mut live = Live::start().await;
    let (came, never) = (live.track().await, live.track().await);
    let request = live.presign(&came, json!({})).await;
    live.presign(&never, json!({})).await;
    live.kill().await;
    live.restart().await;
    // The URL that was signed before the kill still works, and the row exists.
    assert_eq!(live.send_bytes(&request, mp3(9000, 1)).await.status(), 200);
    live.kill().await;
    live.restart().await;
    live.reconcile("incremental").await;
    assert_eq!(text(&live.get(&format!("/api/tracks/{came}")).await.1, "status"), "uploaded");
    assert_eq!(text(&live.get(&format!("/api/tracks/{never}")).await.1, "status"), "pending");
}

#[tokio::test]
async fn a_kill_during_a_reconciliation_loses_nothing() {
    let mut live = Live::start().await;
    let mut tracks = Vec::new();
    for seed in 0..120 {
        let track = live.track().await;
        let request = live.presign(&track, json!({})).await;
        if seed % 3 != 0 {
            assert_eq!(live.send_bytes(&request, mp3(2000, seed)).await.status(), 200);
        }
        tracks.push((track, if seed % 3 == 0 { "pending" } else { "uploaded" }));
    }
    let (status, run) = live.post("/api/admin/reconciliations", json!({"mode": "audit"})).await;
    assert_eq!(status, 202, "{run}");
    // On a slow machine the run is killed in progress, otherwise just after its end. Both cases
    // must work.
    let first = &tracks[1].0;
    wait_for("the first confirmation", async || {
        let (_, track) = live.get(&format!("/api/tracks/{first}")).await;
        (track["status"] == "uploaded").then_some(())
    })
    .await;
    live.kill().await;
    live.restart().await;
    // The interrupted run continues after its lease has expired. A new run may start after its end.
    let path = "/api/admin/reconciliations?wait=true";
    wait_for("another audit", async || {
        (live.post(path, json!({"mode": "audit"})).await.0 == 200).then_some(())
    })
    .await;
    for (track, expected) in &tracks {
        let (_, track) = live.get(&format!("/api/tracks/{track}")).await;
        assert_eq!(text(&track, "status"), *expected);
    }
    let again = live.reconcile("audit").await;
    assert_eq!(again["counters"]["confirmed"], 0, "{again}");
    let (_, dead) = live.get(&format!("/api/admin/reconciliations/{}", text(&run, "id"))).await;
    assert_eq!(text(&dead, "status"), "succeeded", "{dead}");
    assert_eq!(dead["counters"]["confirmed"], 80, "nothing is done twice or left out: {dead}");
}

#[tokio::test]
async fn a_direct_upload_that_is_killed_leaves_a_row_that_expires() {
    let mut live = Live::with(&[
        ("policies.tracks.url_ttl", "1s"),
        ("policies.tracks.max_url_ttl", "1h"),
        ("policies.tracks.grace", "1s"),
        ("direct_upload.part_size", "5MiB"),
    ])
    .await;
    let track = live.track().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let body = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    let upload = live
        .http
        .post(format!("{}/api/tracks/{track}/upload/song.mp3", live.url))
        .body(reqwest::Body::wrap_stream(body))
        .send();
    let upload = tokio::spawn(upload);
    for _ in 0..12 {
        sender.send(Ok(mp3(1 << 20, 1))).await.unwrap();
    }
    let path = format!("/api/tracks/{track}");
    wait_for("the pending upload", async || {
        (live.get(&path).await.1["status"] == "pending").then_some(())
    })
    .await;
    live.kill().await;
    assert!(upload.await.unwrap().is_err());
    live.restart().await;
    wait_for("the expired upload", async || {
        live.reconcile("incremental").await;
        (live.get(&path).await.1["status"] == "expired").then_some(())
    })
    .await;
}

#[tokio::test]
async fn sigterm_ends_the_service_in_order() {
    let mut live = Live::start().await;
    let track = live.track().await;
    assert_eq!(live.terminate().await, Some(0));
    live.restart().await;
    let (status, _) = live.send(Method::GET, &format!("/api/tracks/{track}"), None).await;
    assert_eq!(status, 200);
}
