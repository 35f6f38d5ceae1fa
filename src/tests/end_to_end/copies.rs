//! A second service uses a copy of the database on the same bucket.

use serde_json::json;
use upload_coordinator::domain::Status;

use crate::support::database::copy_file;
use crate::support::live::{Live, text};
use crate::support::mp3;
use crate::support::wait::wait_for;

#[tokio::test]
async fn a_copy_of_the_database_in_use_deletes_nothing_and_both_sides_are_degraded() {
    let prefix = ("policies.tracks.prefix", "drill/");
    let original = Live::dev_with(&[prefix]).await;
    let track = original.track().await;
    let signed = original.presign(&track, json!({})).await;
    assert_eq!(original.send_bytes(&signed, mp3(900, 1)).await.status(), 200);
    let upload = text(&signed["upload"], "id");
    let (status, found) = original.post(&format!("/api/uploads/{upload}/confirm"), json!({})).await;
    assert_eq!((status, text(&found, "status")), (200, Status::Uploaded.name().to_owned()));
    assert_eq!(original.reconcile("incremental").await["status"], "succeeded");

    let folder = tempfile::tempdir().unwrap();
    let copied = folder.path().join("copy.db").display().to_string();
    let database = original.data_folder().join("upload-coordinator.db").display().to_string();
    copy_file(&format!("sqlite://{database}"), &copied).await;
    let url = format!("sqlite://{copied}");
    let copy = Live::serving(&original.embedded_store(), &[prefix, ("database.url", &url)]).await;

    let delete = copy.http.delete(format!("{}/api/uploads/{upload}", copy.url));
    assert_eq!(delete.send().await.unwrap().status(), 204);
    let run = copy.reconcile("incremental").await;
    assert_eq!((&run["status"], &run["counters"]["deleted"]), (&"stopped".into(), &0.into()));
    assert_eq!(original.reconcile("incremental").await["status"], "stopped");
    assert_eq!(original.file(&track).await, mp3(900, 1), "the file is not gone");
    for side in [&original, &copy] {
        wait_for("the degraded status", async || {
            let (status, ready) = side.get("/readyz").await;
            assert_eq!(status, 200);
            let reason = ready["reason"].as_str().unwrap_or_default();
            let is_contested = reason.contains("a copy of the database uses the same bucket");
            (ready["status"] == "degraded" && is_contested).then_some(())
        })
        .await;
    }
    // The copy runs with `serve`, which accepts no uploads without its own marker.
    let (status, refused) = copy.post("/api/uploads", json!({"filename": "a.mp3"})).await;
    assert_eq!((status, text(&refused, "type")), (503, "/problems/bucket-mismatch".to_owned()));

    let (status, reissued) = copy.post("/api/admin/instance/reissue", json!({})).await;
    assert_eq!(status, 200, "{reissued}");
    assert_eq!(reissued["markers"][0]["trusted"], false);
    let (status, reclaimed) = original.post("/api/admin/instance/reclaim", json!({})).await;
    assert_eq!((status, &reclaimed["markers"][0]["trusted"]), (200, &true.into()), "{reclaimed}");
    assert_eq!(reclaimed["id"], reissued["former_id"]);
    for _ in 0..2 {
        assert_eq!(copy.reconcile("incremental").await["status"], "stopped");
        assert_eq!(original.reconcile("incremental").await["status"], "succeeded");
    }
    assert_eq!(original.file(&track).await, mp3(900, 1));
    wait_for("the end of the degraded status", async || {
        (original.get("/readyz").await.1["status"] == "ok").then_some(())
    })
    .await;
    // The original may delete files again.
    let delete = original.http.delete(format!("{}/api/uploads/{upload}", original.url));
    assert_eq!(delete.send().await.unwrap().status(), 204);
    assert_eq!(original.reconcile("incremental").await["counters"]["deleted"], 1);
}
