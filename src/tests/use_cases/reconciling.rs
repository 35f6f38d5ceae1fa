//! What audits and incremental runs find and change.

use chrono::TimeDelta;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::run::{Counters, Mode, RunRequest, RunStatus, Trigger};
use upload_coordinator::domain::{Status, Upload};
use upload_coordinator::reconcile::StartError;
use upload_coordinator::storage::memory::{ListFailure, Operation};
use upload_coordinator::storage::{ObjectStore as _, StoreError};

use crate::support::world::World;
use crate::support::{PNG, mp3};

const BOTH: [Mode; 2] = [Mode::Incremental, Mode::Audit];

async fn uploaded(world: &World, seed: u8) -> Upload {
    let upload = world.upload().await;
    world.put(&upload, mp3(900, seed)).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap()
}

#[tokio::test]
async fn uploads_become_uploaded_rejected_or_expired_after_their_deadline() {
    for mode in BOTH {
        let world = World::new().await;
        let (good, bad, none) = (world.upload().await, world.upload().await, world.upload().await);
        world.put(&good, mp3(900, 1)).await;
        world.put(&bad, PNG).await;
        let run = world.reconcile(mode).await;
        assert_eq!(run.status, RunStatus::Succeeded, "{:?}", run.error);
        assert_eq!((run.counters.confirmed, run.counters.rejected), (1, 1));
        assert_eq!(run.counters.expired, 0, "its deadline has not passed");
        world.pass_the_deadline();
        let run = world.reconcile(mode).await;
        assert_eq!(run.counters.expired, 1);
        assert_eq!(world.get(good.id).await.status(), Status::Uploaded);
        assert_eq!(world.get(bad.id).await.status(), Status::Rejected);
        assert_eq!(world.get(none.id).await.status(), Status::Expired);
        let again = world.reconcile(mode).await;
        assert_eq!(again.counters.transitions(), 0, "{:?}", again.counters);
    }
}

#[tokio::test]
async fn late_bytes_are_found_and_marked() {
    for mode in BOTH {
        let world = World::new().await;
        let upload = world.upload().await;
        world.pass_the_deadline();
        world.reconcile(mode).await;
        assert_eq!(world.get(upload.id).await.status(), Status::Expired);
        world.put(&upload, mp3(900, 1)).await;
        let run = world.reconcile(mode).await;
        assert_eq!((run.counters.confirmed, run.counters.late), (1, 1));
        assert!(world.get(upload.id).await.state.verified().unwrap().late);
        let kinds = world.findings(&run).await;
        assert_eq!(kinds, [("late", upload.key.as_str().to_owned())]);
    }
}

#[tokio::test]
async fn an_audit_finds_missing_overwritten_orphaned_and_foreign_objects() {
    let world = World::new().await;
    let (sound, lost, changed) =
        (uploaded(&world, 1).await, uploaded(&world, 2).await, uploaded(&world, 3).await);
    world.reconcile(Mode::Audit).await;
    world.store.delete(lost.key.as_str()).await.unwrap();
    world.put(&changed, mp3(901, 9)).await;
    let orphan = "tracks/f/0190a6f2-7b3c-7def-8123-456789abcdef";
    world.put_key(orphan, mp3(900, 4)).await;
    world.put_key("tracks/notes.txt", "hello").await;
    world.pass_the_deadline();
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!(run.status, RunStatus::Succeeded, "{:?}", run.error);
    let Counters { missing, overwritten, rejected, orphans, foreign, deleted, .. } = run.counters;
    assert_eq!((missing, overwritten, rejected, orphans, foreign, deleted), (1, 1, 1, 1, 1, 0));
    assert_eq!(world.get(sound.id).await, sound);
    assert_eq!(world.get(lost.id).await.status(), Status::Missing);
    assert_eq!(world.get(changed.id).await.status(), Status::Rejected);
    let mut found: Vec<_> = world.findings(&run).await.into_iter().map(|(kind, _)| kind).collect();
    found.sort_unstable();
    assert_eq!(found, ["foreign", "missing", "orphan", "overwritten"]);
    // Nothing has changed: the run has the same findings and changes nothing.
    let again = world.reconcile(Mode::Audit).await;
    assert_eq!(again.counters.transitions(), 0);
    assert_eq!(world.findings(&again).await.len(), 4);
    // The same bytes are stored again.
    world.put(&lost, mp3(900, 2)).await;
    world.reconcile(Mode::Audit).await;
    assert_eq!(world.get(lost.id).await.status(), Status::Uploaded);
    assert!(world.store.keys().contains(&orphan.to_owned()), "orphans are reported only");
}

#[tokio::test]
async fn a_dry_run_has_the_same_counters_as_a_real_run_and_changes_nothing() {
    let world = World::new().await;
    let (good, gone) = (world.upload().await, uploaded(&world, 1).await);
    world.put(&good, mp3(900, 2)).await;
    world.reconcile(Mode::Audit).await;
    let late = world.upload().await;
    let cancelled = uploaded(&world, 5).await;
    world.app.delete_upload(&world.owner, cancelled.id).await.unwrap();
    world.store.delete(gone.key.as_str()).await.unwrap();
    world.pass_the_deadline();
    let before = (world.get(late.id).await, world.get(gone.id).await, world.store.keys());
    let dry = world.reconcile_with(|request| request.dry_run = true, Mode::Audit).await;
    assert_eq!(dry.status, RunStatus::Succeeded, "{:?}", dry.error);
    let after = (world.get(late.id).await, world.get(gone.id).await, world.store.keys());
    assert_eq!(before, after);
    let real = world.reconcile(Mode::Audit).await;
    assert_eq!(dry.counters, real.counters);
    assert_eq!((real.counters.expired, real.counters.missing, real.counters.deleted), (1, 1, 1));
}

#[tokio::test]
async fn objects_of_final_rows_are_deleted_when_they_are_due() {
    for mode in BOTH {
        let world = World::new().await;
        let rejected = world.upload().await;
        world.put(&rejected, PNG).await;
        let removed = uploaded(&world, 1).await;
        world.app.delete_upload(&world.owner, removed.id).await.unwrap();
        world.reconcile(mode).await;
        let keys = world.store.keys();
        assert!(keys.contains(&rejected.key.to_string()), "its retention has not ended");
        assert!(!keys.contains(&removed.key.to_string()));
        assert!(world.get(removed.id).await.deletion.done.is_some());
        world.pass(TimeDelta::hours(25));
        let run = world.reconcile(mode).await;
        assert_eq!(run.counters.deleted, 1);
        assert!(!world.store.keys().contains(&rejected.key.to_string()));
    }
}

#[tokio::test]
async fn bytes_put_by_the_url_of_a_cancelled_upload_are_deleted_again_and_again() {
    let world = World::new().await;
    let upload = world.upload().await;
    world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    for _ in 0..3 {
        world.put(&upload, mp3(900, 1)).await;
        let run = world.reconcile(Mode::Audit).await;
        assert_eq!(run.counters.deleted, 1);
        assert_eq!(world.store.keys(), ["tracks/.instance"]);
    }
}

#[tokio::test]
async fn losing_more_than_a_hundred_objects_stops_a_run_unless_as_many_are_accepted() {
    let world = World::new().await;
    let mut all = Vec::new();
    for seed in 0..102 {
        all.push(uploaded(&world, seed).await);
    }
    world.reconcile(Mode::Audit).await;
    // An absence counts only if it was seen after the verification.
    world.pass(TimeDelta::seconds(1));
    for upload in &all[..101] {
        world.store.delete(upload.key.as_str()).await.unwrap();
    }
    let stopped = world.reconcile(Mode::Audit).await;
    assert_eq!(stopped.status, RunStatus::Stopped);
    assert_eq!(stopped.counters.missing, 0);
    assert!(stopped.error.unwrap().contains("--accept-damage"));
    assert_eq!(world.get(all[0].id).await.status(), Status::Uploaded);
    let other_override = |request: &mut RunRequest| request.adopt_bucket = true;
    let too_few = |request: &mut RunRequest| request.accept_damage = 100;
    for run in [
        world.reconcile_with(other_override, Mode::Audit).await,
        world.reconcile_with(too_few, Mode::Audit).await,
    ] {
        assert_eq!((run.status, run.counters.missing), (RunStatus::Stopped, 0));
    }
    let accepted = world.reconcile_with(|request| request.accept_damage = 101, Mode::Audit).await;
    assert_eq!((accepted.status, accepted.counters.missing), (RunStatus::Succeeded, 101));
}

#[tokio::test]
async fn in_a_bucket_without_its_marker_absences_are_ignored_and_nothing_is_deleted() {
    let world = World::new().await;
    let (lost, removed) = (uploaded(&world, 1).await, uploaded(&world, 2).await);
    world.reconcile(Mode::Audit).await;
    world.pass(TimeDelta::seconds(1));
    world.app.delete_upload(&world.owner, removed.id).await.unwrap();
    // Like the bucket of another environment: it has no marker, or the marker of another database.
    for key in world.store.keys() {
        if key != removed.key.as_str() {
            world.store.delete(&key).await.unwrap();
        }
    }
    for marker in [None, Some("0190a6f2-7b3c-7def-8123-456789abcdef")] {
        if let Some(marker) = marker {
            world.put_key("tracks/.instance", marker).await;
        }
        let run = world.reconcile(Mode::Audit).await;
        assert_eq!(run.status, RunStatus::Stopped, "{marker:?}");
        assert_eq!(world.get(lost.id).await.status(), Status::Uploaded);
        assert!(world.store.keys().contains(&removed.key.to_string()));
    }
    let adopt = |request: &mut RunRequest| request.adopt_bucket = true;
    let adopted = world.reconcile_with(adopt, Mode::Audit).await;
    assert_eq!(
        adopted.status,
        RunStatus::Stopped,
        "the marker of another database is never overridden"
    );
    world.store.delete("tracks/.instance").await.unwrap();
    let damage = |request: &mut RunRequest| request.accept_damage = 100;
    let run = world.reconcile_with(damage, Mode::Audit).await;
    assert_eq!(run.status, RunStatus::Stopped, "accepted damage adopts no bucket");
    let adopted = world.reconcile_with(adopt, Mode::Audit).await;
    assert_eq!(adopted.status, RunStatus::Succeeded, "{:?}", adopted.error);
    assert_eq!(world.get(lost.id).await.status(), Status::Missing);
}

#[tokio::test]
async fn only_one_run_of_a_mode_and_policy_is_active_at_a_time() {
    let world = World::new().await;
    let upload = world.upload().await;
    world.put(&upload, mp3(900, 1)).await;
    let gate = world.store.hold(Operation::List);
    let request = || RunRequest::of(Mode::Audit, Trigger::Api);
    let first = world.reconciler.start(request()).await.unwrap();
    let second = world.reconciler.start(request()).await;
    assert!(matches!(second, Err(StartError::Held(id)) if id == first.run.id));
    // A run of the other mode can be active at the same time.
    let beside = world.reconcile(Mode::Incremental).await;
    assert_eq!(beside.status, RunStatus::Succeeded, "{:?}", beside.error);
    gate.open();
    assert_eq!(first.wait().await.status, RunStatus::Succeeded);
    assert_eq!(world.reconcile(Mode::Audit).await.status, RunStatus::Succeeded);
}

#[tokio::test]
async fn a_run_can_be_cancelled_while_the_store_hangs() {
    let world = World::new().await;
    let gate = world.store.hold(Operation::List);
    let request = RunRequest::of(Mode::Audit, Trigger::Api);
    let handle = world.reconciler.start(request).await.unwrap();
    let cancelled = world.reconciler.cancel(handle.run.id).await.unwrap();
    let ended = handle.wait().await;
    assert_eq!(ended, cancelled);
    assert_eq!(ended.status, RunStatus::Cancelled);
    assert_eq!(world.app.db.runs().find(ended.id).await.unwrap().unwrap(), ended);
    gate.open();
    assert_eq!(world.reconcile(Mode::Audit).await.status, RunStatus::Succeeded);
}

#[tokio::test]
async fn a_listing_that_repeats_a_page_fails_the_run_and_reports_no_false_orphans() {
    let world = World::new().await;
    for seed in 0..200 {
        let upload = world.upload().await;
        world.put(&upload, mp3(900, seed)).await;
    }
    world.reconcile(Mode::Audit).await;
    world.pass_the_deadline();
    // Each shard has two pages. The second one starts at the first key again.
    world.store.spoil_lists(std::iter::repeat_n(Some(ListFailure::Repeat), 32));
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert!(run.error.as_deref().is_some_and(|e| e.contains("not in ascending order")), "{run:?}");
    assert_eq!((run.counters.orphans, run.counters.missing), (0, 0), "{run:?}");
}

#[tokio::test]
async fn a_store_error_on_one_object_does_not_affect_the_others() {
    let world = World::new().await;
    for seed in 0..5 {
        let upload = world.upload().await;
        world.put(&upload, mp3(900, seed)).await;
    }
    world.reconcile_with(|request| request.dry_run = true, Mode::Audit).await;
    // This fails the first read of the run, which may be that of the marker.
    world.store.fail_next(Operation::Read, 1, || StoreError::Unavailable("down".into()));
    let run = world.reconcile(Mode::Audit).await;
    assert!(run.counters.errors <= 1);
    let remaining = world.reconcile(Mode::Audit).await;
    assert_eq!(run.counters.confirmed + remaining.counters.confirmed, 5);
}

#[tokio::test]
async fn a_single_pending_upload_and_many_are_both_found_by_an_incremental_run() {
    for count in [1, 13, 300] {
        let world = World::new().await;
        let mut uploads = Vec::new();
        for _ in 0..count {
            uploads.push(world.create(NewUpload::default()).await);
        }
        for (seed, upload) in uploads.iter().enumerate() {
            world.put(upload, mp3(900, u8::try_from(seed % 250).unwrap())).await;
        }
        let run = world.reconcile(Mode::Incremental).await;
        assert_eq!(run.counters.confirmed, count, "{:?}", run.counters);
    }
}

#[tokio::test]
async fn other_bytes_of_the_same_size_are_recognised_by_their_checksum() {
    for mode in BOTH {
        let world = World::new().await;
        let (changed, again) = (uploaded(&world, 1).await, uploaded(&world, 2).await);
        world.put(&changed, mp3(900, 3)).await;
        world.put(&again, mp3(900, 2)).await;
        let run = world.reconcile(mode).await;
        assert_eq!((run.counters.overwritten, run.counters.rejected), (1, 1), "{mode:?}");
        assert_eq!(world.get(changed.id).await.status(), Status::Rejected);
        assert_eq!(world.get(again.id).await.status(), Status::Uploaded);
    }
}
