//! Which changes are damage, and the damage limit of a run.

use std::sync::Arc;

use chrono::TimeDelta;
use upload_coordinator::domain::run::{Mode, Run, RunRequest, RunStatus, Trigger};
use upload_coordinator::domain::{Status, Upload};
use upload_coordinator::reconcile::{DamageLimit, ReconcileSettings, Reconciler};
use upload_coordinator::storage::ObjectStore as _;

use crate::support::mp3;
use crate::support::world::World;

async fn uploaded(world: &World) -> Upload {
    let upload = world.upload().await;
    world.put(&upload, mp3(900, 1)).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap()
}

/// Verified uploads that an audit rejects because their bytes changed.
async fn overwritten(world: &World, count: usize) -> Vec<Upload> {
    let mut uploads = Vec::new();
    for _ in 0..count {
        let upload = uploaded(world).await;
        world.put(&upload, mp3(901, 2)).await;
        uploads.push(upload);
    }
    uploads
}

/// An audit with other settings.
async fn audit(world: &World, settings: ReconcileSettings, dry_run: bool) -> Run {
    let request = RunRequest { dry_run, ..RunRequest::of(Mode::Audit, Trigger::Api) };
    let reconciler = Arc::new(Reconciler::new(world.app.clone(), settings));
    reconciler.start(request).await.unwrap().wait().await
}

#[tokio::test]
async fn cancelled_uploads_without_bytes_stop_no_run_and_are_handled_once() {
    let world = World::new().await;
    let lost = uploaded(&world).await;
    for _ in 0..120 {
        let upload = world.upload().await;
        world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    }
    world.pass(TimeDelta::seconds(1));
    world.store.delete(lost.key.as_str()).await.unwrap();
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!(run.status, RunStatus::Succeeded, "{:?}", run.error);
    assert_eq!((run.counters.deleted, run.counters.missing), (120, 1));
    let next = world.reconcile(Mode::Incremental).await;
    assert_eq!((next.status, next.counters.deleted), (RunStatus::Succeeded, 0));
}

#[tokio::test]
async fn verified_uploads_that_their_owner_deleted_stop_no_run() {
    let world = World::new().await;
    for _ in 0..101 {
        let upload = uploaded(&world).await;
        world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    }
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!(run.status, RunStatus::Succeeded, "{:?}", run.error);
    assert_eq!(run.counters.deleted, 101);
}

#[tokio::test]
async fn deletions_above_the_damage_limit_stop_a_run_that_would_do_only_some_of_them() {
    let world = World::new().await;
    let uploads = overwritten(&world, 101).await;
    let accept = |request: &mut RunRequest| request.accept_damage = 101;
    let run = world.reconcile_with(accept, Mode::Audit).await;
    assert_eq!(run.counters.overwritten, 101);
    world.pass(TimeDelta::hours(25));
    let settings = || ReconcileSettings { max_deletions: 50, ..ReconcileSettings::default() };
    let run = audit(&world, settings(), false).await;
    assert_eq!((run.status, run.counters.deleted), (RunStatus::Stopped, 0), "{:?}", run.error);
    assert_eq!(world.store.keys().len(), uploads.len() + 1, "all objects and the marker");
    let none = ReconcileSettings { max_deletions: 0, ..settings() };
    let run = audit(&world, none, false).await;
    assert_eq!(run.status, RunStatus::Succeeded, "a run that deletes nothing does no damage");
}

#[tokio::test]
async fn the_configured_limit_stops_real_and_dry_runs_alike() {
    let world = World::with(|policy| policy.rejected_retention = TimeDelta::zero()).await;
    let uploads = overwritten(&world, 6).await;
    let settings = |max| ReconcileSettings {
        damage: DamageLimit { max, ..DamageLimit::default() },
        ..ReconcileSettings::default()
    };
    for dry_run in [true, false] {
        let run = audit(&world, settings(5), dry_run).await;
        assert_eq!((run.status, run.counters.deleted), (RunStatus::Stopped, 0), "dry: {dry_run}");
        assert!(run.error.unwrap().contains("more than 5 "));
    }
    let run = audit(&world, settings(6), false).await;
    assert_eq!((run.status, run.counters.deleted), (RunStatus::Succeeded, 6), "{:?}", run.error);
    assert_eq!(world.get(uploads[0].id).await.status(), Status::Rejected);
}
