//! The marker object, which proves that a bucket belongs to this database. Without the right
//! marker, the absence of an object changes nothing, and new uploads can be refused. A marker has a
//! *lap*: a random value that the database replaces regularly, so that copies of the database are
//! noticed.

use std::sync::Arc;

use chrono::TimeDelta;
use futures_util::future::join_all;
use upload_coordinator::app::bucket_identity::{BucketTrust, CheckOptions};
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::{App, AppError};
use upload_coordinator::domain::event::ObjectEvent;
use upload_coordinator::domain::marker::{BucketIdentity, Mismatch};
use upload_coordinator::domain::run::{Mode, RunStatus};
use upload_coordinator::domain::{Status, Upload};
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::{ObjectStore as _, StoreError};

use crate::support::mp3;
use crate::support::served::Served;
use crate::support::world::World;

const MARKER: &str = "tracks/.instance";

async fn uploaded(world: &World) -> Upload {
    let upload = world.upload().await;
    world.put(&upload, mp3(900, 1)).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap()
}

async fn text(world: &World) -> String {
    let meta = world.store.head(MARKER).await.unwrap().unwrap();
    let bytes = world.store.read(MARKER, 0..999, &meta.etag).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn removed(world: &World, upload: &Upload) {
    let event = ObjectEvent { bucket: "memory".into(), key: upload.key.to_string() };
    world.app.process_events(vec![event]).await.unwrap();
}

#[tokio::test]
async fn an_event_of_a_removed_object_counts_only_in_this_databases_bucket() {
    let world = World::new().await;
    let upload = uploaded(&world).await;
    let marker = text(&world).await;
    world.pass(TimeDelta::seconds(1));
    world.store.delete(upload.key.as_str()).await.unwrap();
    let other = "0190a6f2-7b3c-7def-8123-456789abcdef";
    for foreign in [None, Some(other)] {
        match foreign {
            None => world.store.delete(MARKER).await.unwrap(),
            Some(foreign) => world.put_key(MARKER, foreign).await,
        }
        removed(&world, &upload).await;
        assert_eq!(world.get(upload.id).await.status(), Status::Uploaded, "{foreign:?}");
    }
    world.put_key(MARKER, marker).await;
    removed(&world, &upload).await;
    assert_eq!(world.get(upload.id).await.status(), Status::Missing);
}

#[tokio::test]
async fn a_confirmation_ends_no_upload_in_a_foreign_bucket() {
    let world = World::new().await;
    let upload = world.upload().await;
    world.pass_the_deadline();
    world.store.delete(MARKER).await.unwrap();
    let confirmed = world.app.confirm_upload(&world.owner, upload.id).await;
    assert!(matches!(confirmed, Err(AppError::NotArrived)), "{confirmed:?}");
    assert_eq!(world.get(upload.id).await.status(), Status::Pending);
}

#[tokio::test]
async fn absences_are_dated_by_the_clock_of_the_database() {
    let world = World::new().await;
    let upload = world.upload().await;
    // This process's clock is two hours ahead: by the database's clock, the deadline has not
    // passed.
    world.pass(TimeDelta::hours(2));
    let offset = world.app.measure_clock_offset().await.unwrap();
    assert!((offset + TimeDelta::hours(2)).abs() < TimeDelta::minutes(1), "{offset}");
    world.reconcile(Mode::Audit).await;
    let confirmed = world.app.confirm_upload(&world.owner, upload.id).await;
    assert!(matches!(confirmed, Err(AppError::NotArrived)), "{confirmed:?}");
    assert_eq!(world.get(upload.id).await.status(), Status::Pending);
    let late = world.upload().await;
    // A day later by both clocks.
    world.pass(TimeDelta::hours(26));
    world.reconcile(Mode::Audit).await;
    for upload in [upload, late] {
        assert_eq!(world.get(upload.id).await.status(), Status::Expired);
    }
}

#[tokio::test]
async fn processes_that_replace_the_lap_at_once_never_contest_each_other() {
    let world = World::new().await;
    let mut processes = vec![];
    for _ in 0..3 {
        processes.push(Arc::new(world.replica().await));
    }
    let mut laps = std::collections::BTreeSet::new();
    for round in 0..30 {
        world.pass(TimeDelta::minutes(1));
        match round % 5 {
            // The write succeeds, and its response is lost.
            1 => world.store.lose_next(Operation::Put, 1),
            2 => {
                let down = || StoreError::Unavailable("503 SlowDown".into());
                world.store.fail_next(Operation::Put, 2, down);
            }
            _ => {}
        }
        let policy = world.policy();
        let checks = processes.iter().map(|app| {
            let app: &App = app;
            app.check_bucket(policy, CheckOptions::default())
        });
        for checked in join_all(checks).await {
            assert_eq!(checked.unwrap(), BucketIdentity::Match, "round {round}");
        }
        laps.insert(text(&world).await);
    }
    assert!(laps.len() > 15, "{} laps", laps.len());
}

#[tokio::test]
async fn a_lap_that_was_committed_but_not_written_is_written_by_the_next_check() {
    let world = World::new().await;
    world.pass(TimeDelta::minutes(1));
    world.store.fail_next(Operation::Put, 1, || StoreError::Unavailable("down".into()));
    let before = text(&world).await;
    assert_eq!(world.identity().await, BucketIdentity::Match);
    assert_eq!(text(&world).await, before, "the write of the marker failed");
    assert_eq!(world.identity().await, BucketIdentity::Match);
    assert_ne!(text(&world).await, before);
}

#[tokio::test]
async fn a_marker_of_a_version_without_laps_is_trusted_once_and_gets_a_lap() {
    let world = World::new().await;
    let id = text(&world).await.lines().next().unwrap().to_owned();
    world.put_key(MARKER, id.clone()).await;
    let stale = "UPDATE markers SET store = '', lap = NULL, next_lap = NULL, lap_at = NULL";
    world.execute(stale).await;
    assert_eq!(world.identity().await, BucketIdentity::Match);
    assert_eq!(text(&world).await.lines().count(), 2);
    // A marker without a lap is now older than the database's record.
    world.put_key(MARKER, id).await;
    assert_eq!(world.identity().await, BucketIdentity::Mismatch(Mismatch::Contested));
}

#[tokio::test]
async fn a_renamed_store_keeps_its_markers() {
    let world = World::new().await;
    world.execute("UPDATE markers SET store = 'former'").await;
    assert_eq!(world.identity().await, BucketIdentity::Match);
    world.pass(TimeDelta::minutes(1));
    assert_eq!(world.identity().await, BucketIdentity::Match);
}

#[tokio::test]
async fn a_dry_run_neither_replaces_nor_contests_a_marker() {
    let world = World::new().await;
    let marker = text(&world).await;
    world.pass(TimeDelta::hours(1));
    let dry = || world.reconcile_with(|request| request.dry_run = true, Mode::Audit);
    assert_eq!(dry().await.status, RunStatus::Succeeded);
    assert_eq!(text(&world).await, marker);
    let mut lines = marker.lines();
    let foreign = format!("{}\n0190a6f2-7b3c-7def-8123-456789abcdef\n", lines.next().unwrap());
    world.put_key(MARKER, foreign.clone()).await;
    assert_eq!(dry().await.status, RunStatus::Stopped);
    assert_eq!(text(&world).await, foreign);
    world.put_key(MARKER, marker).await;
    assert_eq!(dry().await.status, RunStatus::Succeeded, "nothing was recorded");
}

#[tokio::test]
async fn an_incomplete_marker_is_not_trusted_and_contests_nothing() {
    let world = World::new().await;
    let whole = text(&world).await;
    world.put_key(MARKER, whole[..50].to_owned()).await;
    let half = world.identity().await;
    assert_eq!(half, BucketIdentity::Mismatch(Mismatch::Foreign(None)));
    world.put_key(MARKER, whole).await;
    assert_eq!(world.identity().await, BucketIdentity::Match);
}

#[tokio::test]
async fn without_its_marker_a_policy_refuses_new_uploads_if_a_marker_is_required() {
    let world = World::new().await;
    let replica = world.replica().await;
    let app = Arc::new(App { buckets: BucketTrust::new(true), ..replica });
    app.check_buckets().await.unwrap();
    let create = async || app.create_upload(&world.owner, NewUpload::default()).await;
    let pending = create().await.unwrap().upload;
    world.store.delete(MARKER).await.unwrap();
    app.check_buckets().await.unwrap();
    let calls = world.store.calls(Operation::Head);
    let refused = create().await;
    assert!(matches!(refused, Err(AppError::BucketMismatch(_))), "{refused:?}");
    assert_eq!(world.store.calls(Operation::Head), calls, "a creation sends no request");
    // Uploads that were already created can continue.
    app.renew_upload(&world.owner, pending.id, None).await.unwrap();
    world.put(&pending, mp3(900, 1)).await;
    let confirmed = app.confirm_upload(&world.owner, pending.id).await.unwrap();
    assert_eq!(confirmed.status(), Status::Uploaded);
    let served = Served::over(world, Arc::clone(&app));
    let create = served.client.post(format!("{}/api/uploads", served.url));
    let response = create.json(&serde_json::json!({"filename": "a.mp3"})).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    let problem: serde_json::Value = response.json().await.unwrap();
    assert_eq!(problem["type"], "/problems/bucket-mismatch");
    let ready: serde_json::Value =
        served.get("/readyz").send().await.unwrap().json().await.unwrap();
    assert_eq!((&ready["ready"], &ready["status"]), (&true.into(), &"degraded".into()), "{ready}");
    assert_eq!(ready["checks"]["marker.tracks"], "the marker is missing");
    assert!(ready["reason"].as_str().unwrap().contains("marker.tracks"));
    served.stop().await;
}
