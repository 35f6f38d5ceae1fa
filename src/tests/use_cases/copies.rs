//! Copies and older states of a database on the same bucket. The marker object in the bucket has a
//! *lap*, a random value that the database replaces regularly. A lap that a database did not write
//! shows that another copy of the database uses the bucket too.

use chrono::TimeDelta;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::marker::{BucketIdentity, Marker, Mismatch};
use upload_coordinator::domain::run::{Mode, Run, RunStatus};
use upload_coordinator::domain::upload::Strategy;
use upload_coordinator::domain::{Status, Upload};
use upload_coordinator::storage::ObjectStore as _;

use crate::support::mp3;
use crate::support::world::World;

const CONTESTED: BucketIdentity = BucketIdentity::Mismatch(Mismatch::Contested);

async fn world() -> World {
    World::in_file(|_| {}).await
}

async fn uploaded(world: &World) -> Upload {
    let upload = world.upload().await;
    world.put(&upload, mp3(900, 1)).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap()
}

async fn marker(world: &World) -> Marker {
    let meta = world.store.head("tracks/.instance").await.unwrap().unwrap();
    let bytes = world.store.read("tracks/.instance", 0..999, &meta.etag).await.unwrap();
    Marker::parse(std::str::from_utf8(&bytes).unwrap()).unwrap()
}

fn has(world: &World, upload: &Upload) -> bool {
    world.store.keys().contains(&upload.key.to_string())
}

async fn incremental(world: &World) -> Run {
    world.reconcile(Mode::Incremental).await
}

#[tokio::test]
async fn a_copy_that_runs_first_deletes_nothing_and_both_sides_notice() {
    let original = world().await;
    let upload = uploaded(&original).await;
    assert_eq!(incremental(&original).await.status, RunStatus::Succeeded);
    let copy = original.copy().await;
    copy.app.delete_upload(&copy.owner, upload.id).await.unwrap();
    let run = incremental(&copy).await;
    assert_eq!((run.status, run.counters.deleted), (RunStatus::Stopped, 0), "{:?}", run.error);
    assert!(run.error.unwrap().contains("moved or copied"));
    let run = incremental(&original).await;
    assert_eq!(run.status, RunStatus::Stopped, "the original never wrote this lap");
    assert!(run.error.unwrap().contains("instance reclaim"));
    assert_eq!(incremental(&copy).await.status, RunStatus::Stopped);
    assert!(has(&original, &upload));
    assert_eq!(original.get(upload.id).await.status(), Status::Uploaded);
    for side in [&original, &copy] {
        assert_eq!(side.identity().await, CONTESTED);
        let reasons = side.app.distrusted_buckets();
        assert!(reasons["marker.tracks"].contains("copy"), "{reasons:?}");
    }
    // Waiting does not resolve the conflict.
    original.pass(TimeDelta::hours(1));
    assert_eq!(incremental(&copy).await.status, RunStatus::Stopped);
    assert!(has(&original, &upload));
}

#[tokio::test]
async fn a_copy_that_runs_second_deletes_nothing_and_both_sides_notice() {
    let original = world().await;
    let upload = uploaded(&original).await;
    let copy = original.copy().await;
    // If the location of the database is unknown, only the lap shows the copy.
    copy.execute("UPDATE instance SET home = NULL").await;
    original.pass(TimeDelta::minutes(1));
    assert_eq!(incremental(&original).await.status, RunStatus::Succeeded);
    copy.app.delete_upload(&copy.owner, upload.id).await.unwrap();
    let run = incremental(&copy).await;
    assert_eq!((run.status, run.counters.deleted), (RunStatus::Stopped, 0), "{:?}", run.error);
    assert!(marker(&original).await.contested);
    assert_eq!(incremental(&original).await.status, RunStatus::Stopped);
    assert!(has(&original, &upload));
}

#[tokio::test]
async fn reissuing_the_copy_and_reclaiming_the_markers_resolves_it() {
    let original = world().await;
    let (needed, unwanted) = (uploaded(&original).await, uploaded(&original).await);
    let copy = original.copy().await;
    incremental(&copy).await;
    incremental(&original).await;
    let before = marker(&original).await;
    let reissued = copy.app.reissue_instance().await.unwrap();
    assert_eq!(reissued.former, Some(before.instance));
    assert_ne!(reissued.id, before.instance);
    assert_eq!(marker(&original).await, before, "the marker may belong to the original");
    let reclaimed = original.app.reclaim_markers(None).await.unwrap();
    assert_eq!(reclaimed.id, before.instance);
    assert_eq!(reclaimed.markers[0].identity, BucketIdentity::Match);
    original.app.delete_upload(&original.owner, unwanted.id).await.unwrap();
    copy.app.delete_upload(&copy.owner, needed.id).await.unwrap();
    for _ in 0..3 {
        original.pass(TimeDelta::minutes(5));
        let run = incremental(&copy).await;
        assert_eq!((run.status, run.counters.deleted), (RunStatus::Stopped, 0));
        assert_eq!(incremental(&original).await.status, RunStatus::Succeeded);
    }
    assert!(has(&original, &needed) && !has(&original, &unwanted));
    let foreign = BucketIdentity::Mismatch(Mismatch::Foreign(Some(before.instance)));
    assert_eq!(copy.identity().await, foreign);
}

#[tokio::test]
async fn a_copy_that_is_still_in_use_does_not_contest_reclaimed_markers_again() {
    let original = world().await;
    let copy = original.copy().await;
    for side in [&copy, &original, &copy] {
        side.identity().await;
    }
    original.app.reclaim_markers(None).await.unwrap();
    assert_eq!(copy.identity().await, CONTESTED);
    assert!(!marker(&original).await.contested);
    assert_eq!(original.identity().await, BucketIdentity::Match);
}

#[tokio::test]
async fn a_reissue_by_mistake_can_be_taken_back() {
    let world = world().await;
    let id = marker(&world).await.instance;
    world.app.reissue_instance().await.unwrap();
    assert_ne!(world.identity().await, BucketIdentity::Match);
    let report = world.app.reclaim_markers(None).await.unwrap();
    assert_eq!(report.markers[0].identity, BucketIdentity::Match);
    assert_eq!(marker(&world).await.instance, report.id);
    assert_ne!(report.id, id);
}

#[tokio::test]
async fn a_moved_database_deletes_again_when_nobody_contested_its_lap() {
    let original = world().await;
    let upload = uploaded(&original).await;
    // The original is never used again.
    let moved = original.copy().await;
    moved.app.delete_upload(&moved.owner, upload.id).await.unwrap();
    let pending = moved.upload().await;
    assert!(matches!(moved.identity().await, BucketIdentity::Unsettled(_)));
    moved.pass(TimeDelta::seconds(170));
    assert_eq!(incremental(&moved).await.status, RunStatus::Stopped);
    moved.pass(TimeDelta::seconds(10));
    let run = incremental(&moved).await;
    assert_eq!((run.status, run.counters.deleted), (RunStatus::Succeeded, 1), "{:?}", run.error);
    assert_eq!(moved.get(pending.id).await.status(), Status::Pending);
}

#[tokio::test]
async fn an_older_state_of_the_database_deletes_nothing_until_it_reclaims_the_marker() {
    let original = world().await;
    let upload = uploaded(&original).await;
    let older = original.copy().await;
    original.pass(TimeDelta::minutes(1));
    let newer = uploaded(&original).await;
    assert_eq!(incremental(&original).await.status, RunStatus::Succeeded);
    drop(original);
    older.app.delete_upload(&older.owner, upload.id).await.unwrap();
    for _ in 0..2 {
        older.pass(TimeDelta::hours(2));
        let run = older.reconcile(Mode::Audit).await;
        assert_eq!((run.status, run.counters.deleted), (RunStatus::Stopped, 0), "{:?}", run.error);
    }
    older.app.reclaim_markers(None).await.unwrap();
    let run = older.reconcile(Mode::Audit).await;
    assert_eq!((run.status, run.counters.deleted), (RunStatus::Succeeded, 1), "{:?}", run.error);
    assert!(has(&older, &newer), "an orphan is not deleted");
}

#[tokio::test]
async fn an_older_marker_in_a_restored_bucket_is_not_trusted() {
    let world = world().await;
    let upload = uploaded(&world).await;
    let older = marker(&world).await.text();
    world.pass(TimeDelta::minutes(1));
    incremental(&world).await;
    world.store.delete(upload.key.as_str()).await.unwrap();
    world.put_key("tracks/.instance", older).await;
    world.pass(TimeDelta::minutes(1));
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!((run.status, run.counters.missing), (RunStatus::Stopped, 0), "{:?}", run.error);
    assert_eq!(world.get(upload.id).await.status(), Status::Uploaded);
}

#[tokio::test]
async fn a_copy_aborts_no_multipart_upload_of_its_original() {
    let original = world().await;
    let new = NewUpload { strategy: Some(Strategy::Multipart), ..NewUpload::default() };
    let new = NewUpload {
        declared: upload_coordinator::domain::upload::Declared {
            size: Some(20 << 20),
            ..Default::default()
        },
        ..new
    };
    let upload = original.create(new).await;
    let copy = original.copy().await;
    copy.app.check_buckets().await.unwrap();
    copy.app.delete_upload(&copy.owner, upload.id).await.unwrap();
    assert_eq!(copy.get(upload.id).await.status(), Status::Cancelled);
    copy.reconcile(Mode::Audit).await;
    let (open, _) = original.store.list_multiparts("tracks/", None).await.unwrap();
    assert_eq!(open.len(), 1, "{open:?}");
    // No other service uses the bucket, so after the waiting time the copy counts as the moved
    // database, and aborts the multipart upload.
    copy.pass(TimeDelta::minutes(30));
    let run = copy.reconcile(Mode::Audit).await;
    assert_eq!(run.status, RunStatus::Succeeded, "{:?}", run.error);
    let (open, _) = original.store.list_multiparts("tracks/", None).await.unwrap();
    assert_eq!(open, []);
}
