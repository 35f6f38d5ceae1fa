//! `GET /api/admin/stats`.

use serde_json::{Value, json};
use upload_coordinator::domain::run::Mode;

use crate::support::served::Served;
use crate::support::wait::wait_for;
use crate::support::{ID3, PNG};

#[tokio::test]
async fn the_statistics_describe_uploads_runs_and_deliveries() {
    let served = Served::new().await;
    let world = &served.world;
    let stats = async || {
        let response = served.get("/api/admin/stats").send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json::<Value>().await.unwrap()
    };
    let empty = stats().await;
    assert_eq!(empty["uploads"], json!({}));
    assert_eq!(empty["oldest_pending"], json!({}));
    assert_eq!(empty["time_to_confirm"]["tracks"]["sample"], 0);
    assert_eq!(empty["last_runs"], json!({}));

    let oldest = world.upload().await;
    for (bytes, seconds) in [(ID3, 10), (ID3, 30), (PNG, 1)] {
        let upload = world.upload().await;
        world.put(&upload, bytes).await;
        world.pass(chrono::TimeDelta::seconds(seconds));
        world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    }
    let run = world.reconcile(Mode::Incremental).await;
    // Counts are cached for a second.
    let found = wait_for("counts of uploads", async || {
        let found = stats().await;
        (found["uploads"] != json!({})).then_some(found)
    })
    .await;
    assert_eq!(found["uploads"]["tracks"], json!({"pending": 1, "uploaded": 2, "rejected": 1}));
    let pending = &found["oldest_pending"]["tracks"];
    assert_eq!(pending["age_seconds"], 41);
    let created: chrono::DateTime<chrono::Utc> =
        pending["created_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(created.timestamp_millis(), oldest.created_at.timestamp_millis());
    let times = &found["time_to_confirm"]["tracks"];
    assert_eq!(
        *times,
        json!({"sample": 2, "p50_seconds": 10.0, "p90_seconds": 30.0,
        "p99_seconds": 30.0})
    );
    assert_eq!(found["last_runs"]["incremental"]["id"], json!(run.id.0));
    assert_eq!(found["last_runs"]["incremental"]["status"], "succeeded");
    assert_eq!(found["webhooks"], json!({"waiting": 0, "dead": 0}));
    assert_eq!((&found["multipart_aborts_due"], &found["waiters"]), (&json!(0), &json!(0)));
    served.stop().await;
}
