//! Three processes on one PostgreSQL share a run, and one of them is killed.
//!
//! The test has 3 rounds, or 20 with `TEST_LONG=1`.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use entity::reconcile_shard::{Column, Entity, Model};
use sea_orm::{ColumnTrait as _, Database, DatabaseConnection, EntityTrait as _, QueryFilter as _};
use serde_json::{Value, json};
use upload_coordinator::domain::clock::SystemClock;
use upload_coordinator::domain::ids::SystemIds;
use upload_coordinator::domain::{Clock as _, IdSource as _, Prefix, UploadId};
use upload_coordinator::storage::PutOptions;

use crate::storage::servers::Subject;
use crate::support::database::TestDatabase;
use crate::support::live::{Live, text};
use crate::support::wait::{wait_for, wait_for_at_most};
use crate::support::{PNG, mp3};

/// The time limit of each step on a slow machine.
const LONG: Duration = Duration::from_mins(2);

#[tokio::test]
async fn three_processes_share_a_run_and_a_kill_changes_nothing_in_its_outcome() {
    if std::env::var("TEST_POSTGRES_URL").is_err() {
        return;
    }
    let rounds = if std::env::var("TEST_LONG").is_ok() { 20 } else { 3 };
    for number in 0..rounds {
        println!("round {number}");
        round().await;
    }
}

async fn round() {
    let on = Subject::server().await;
    let database = TestDatabase::create().await;
    let prefix = format!("{}t/", on.prefix());
    let changes = [
        ("database.url", database.url.as_str()),
        ("policies.tracks.prefix", prefix.as_str()),
        ("policies.tracks.grace", "1s"),
        ("policies.tracks.rejected_retention", "0s"),
        // The run is slow, so that the kill interrupts it after the other processes have joined.
        ("reconcile.page_size", "3"),
        ("reconcile.max_requests_per_second", "6"),
        // The lease is longer than any pause of a slow machine, so that it expires only after a
        // kill.
        ("reconcile.lease", "10s"),
    ];
    let store = on.configuration();
    let mut first = Live::serving(&store, &changes).await;
    let second = Live::serving(&store, &changes).await;
    let third = Live::serving(&store, &changes).await;
    let uploads = populate(&first, &on, &prefix).await;

    // An undisturbed dry run shows what the real run must do and find.
    let path = "/api/admin/reconciliations";
    let dry = json!({"mode": "audit", "dry_run": true});
    let (status, dry) = second.post(&format!("{path}?wait=true"), dry).await;
    assert_eq!((status, &dry["status"]), (200, &json!("succeeded")), "{dry}");

    let (status, run) = first.post(path, json!({"mode": "audit"})).await;
    assert_eq!(status, 202, "{run}");
    let id = text(&run, "id");
    let rows = Database::connect(&database.url).await.unwrap();
    let starter = shards(&rows, &id).await[0].holder.unwrap();
    // The process that started the run is killed while it and other processes hold shards.
    let before = wait_for_at_most(LONG, "two processes that share the run", async || {
        let all = shards(&rows, &id).await;
        let holders: Vec<_> =
            all.iter().filter(|row| row.status == "open").filter_map(|row| row.holder).collect();
        let shared = holders.contains(&starter) && holders.iter().any(|other| *other != starter);
        shared.then_some(all)
    })
    .await;
    first.kill().await;
    let at_kill = shards(&rows, &id).await;
    let left: Vec<i32> = at_kill
        .iter()
        .chain(&before)
        .filter(|row| row.status == "open" && row.holder == Some(starter))
        .map(|row| row.number)
        .filter(|number| at_kill.iter().any(|row| row.number == *number && row.status == "open"))
        .collect();

    let ended = ended(&third, &id).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    let after = shards(&rows, &id).await;
    for row in &after {
        // Only shards of the dead process were claimed again: no shard had two holders at the same
        // time.
        let times = 1 + i64::from(left.contains(&row.number));
        assert_eq!((row.fence, row.status.as_str()), (times, "done"), "{row:?} of {left:?}");
    }
    let holders: BTreeSet<_> = after.iter().map(|row| row.holder).collect();
    assert!(holders.len() >= 2, "{after:?}");
    let transitions = |run: &Value| {
        [
            "listed",
            "confirmed",
            "rejected",
            "expired",
            "missing",
            "orphans",
            "foreign",
            "deleted",
            "late",
            "overwritten",
            "errors",
        ]
        .map(|name| (name, run["counters"][name].clone()))
    };
    assert_eq!(transitions(&ended), transitions(&dry));
    assert_eq!(findings(&third, &id).await, findings(&third, &text(&dry, "id")).await);
    for (track, expected) in &uploads {
        let (_, track) = second.get(&format!("/api/tracks/{track}")).await;
        assert_eq!(text(&track, "status"), *expected);
    }
    let again = second.reconcile("audit").await;
    for name in ["confirmed", "rejected", "expired", "missing", "deleted"] {
        assert_eq!(again["counters"][name], 0, "{again}");
    }
    on.clean_up().await;
}

/// Creates uploads that arrived, uploads with invalid files, and uploads that never arrived;
/// orphans and foreign objects. Returns the tracks with their expected states.
async fn populate(live: &Live, on: &Subject, prefix: &str) -> Vec<(String, &'static str)> {
    let mut tracks = Vec::new();
    for seed in 0..60 {
        let track = live.track().await;
        // A URL is either expired before the audit, or valid for long after it.
        let (lives, bytes, becomes) = match seed % 4 {
            0 => (1, None, "expired"),
            1 => (3600, None, "pending"),
            2 => (3600, Some(PNG.to_vec()), "rejected"),
            _ => (3600, Some(mp3(2000, seed)), "uploaded"),
        };
        let request = live.presign(&track, json!({"expires_in": lives})).await;
        if let Some(bytes) = bytes {
            assert_eq!(live.send_bytes(&request, bytes).await.status(), 200);
        }
        tracks.push((track, becomes));
    }
    let prefix = Prefix::parse(prefix).unwrap();
    for n in 0..6 {
        let key = match n % 2 {
            0 => prefix.key(UploadId(SystemIds.uuid())).to_string(),
            _ => format!("{prefix}foreign-{n}"),
        };
        let body = Bytes::from_static(b"of nobody");
        on.objects().put(&key, body, &PutOptions::default()).await.unwrap();
    }
    // At this time, every URL of one second and its grace have ended, and every orphan is older
    // than the grace. Stores round the time of objects to seconds.
    let last = format!("{prefix}foreign-5");
    let stored = on.objects().head(&last).await.unwrap().unwrap();
    let old_enough = stored.last_modified.unwrap() + TimeDelta::seconds(3);
    wait_for("orphans older than the grace", async || {
        (SystemClock.now() > old_enough).then_some(())
    })
    .await;
    tracks
}

async fn shards(connection: &DatabaseConnection, run: &str) -> Vec<Model> {
    let run: uuid::Uuid = run.parse().unwrap();
    let mut rows = Entity::find().filter(Column::RunId.eq(run)).all(connection).await.unwrap();
    rows.sort_by_key(|row| row.number);
    rows
}

async fn ended(live: &Live, id: &str) -> Value {
    wait_for_at_most(LONG, "the end of the run", async || {
        let (_, run) = live.get(&format!("/api/admin/reconciliations/{id}")).await;
        (run["status"] != "running").then_some(run)
    })
    .await
}

/// The findings of a run: kind and key, sorted.
async fn findings(live: &Live, id: &str) -> Vec<(String, String)> {
    let path = format!("/api/admin/reconciliations/{id}/findings?limit=1000");
    let (status, page) = live.get(&path).await;
    assert_eq!(status, 200, "{page}");
    let items = page["items"].as_array().unwrap().iter();
    let mut found: Vec<_> =
        items.map(|finding| (text(finding, "kind"), text(finding, "key"))).collect();
    found.sort();
    found
}
