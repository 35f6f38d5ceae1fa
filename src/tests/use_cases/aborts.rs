//! Every unfinished multipart upload is aborted in the end, whichever step fails.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::limits::MIN_PART_SIZE;
use upload_coordinator::domain::run::{Mode, RunStatus};
use upload_coordinator::domain::upload::{Declared, Strategy};
use upload_coordinator::domain::{Status, Subject, Upload};
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::{ObjectStore as _, StoreError};

use crate::support::PNG;
use crate::support::world::World;

async fn world() -> World {
    World::with(|policy| policy.part_size = MIN_PART_SIZE).await
}

fn in_parts() -> NewUpload {
    let size = 2 * MIN_PART_SIZE;
    let declared =
        Declared { filename: Some("a.mp3".into()), size: Some(size), ..Declared::default() };
    NewUpload { declared, strategy: Some(Strategy::Multipart), ..NewUpload::default() }
}

/// The ids of the unfinished multipart uploads in the store.
async fn open(world: &World) -> BTreeSet<String> {
    let (open, _) = world.store.list_multiparts("", None).await.unwrap();
    open.into_iter().map(|open| open.upload_id).collect()
}

fn down() -> StoreError {
    StoreError::Unavailable("down".into())
}

async fn recorded_aborts(world: &World) -> u64 {
    world.app.db.multipart_aborts().count().await.unwrap()
}

/// Advances the clock past all pauses, and starts a run.
async fn later(world: &World) -> u64 {
    world.pass(TimeDelta::hours(7));
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
    run.counters.aborted_multipart
}

#[tokio::test]
async fn an_abort_that_fails_is_tried_again_until_the_store_confirms_it() {
    for operation in ["cancel", "expire", "delete the track"] {
        let world = world().await;
        let track = world.track().await;
        let upload = world
            .create(NewUpload { attach_to: Some(Subject::of_track(track.id)), ..in_parts() })
            .await;
        assert_eq!(recorded_aborts(&world).await, 0, "the upload is still open");
        world.store.fail_next(Operation::AbortMultipart, 2, down);
        match operation {
            "cancel" => world.app.delete_upload(&world.owner, upload.id).await.unwrap(),
            "expire" => {
                world.pass_the_deadline();
                world.reconcile(Mode::Incremental).await;
                assert_eq!(world.get(upload.id).await.status(), Status::Expired);
            }
            _ => world.app.delete_track(&world.owner, track.id).await.unwrap(),
        }
        assert_eq!(
            (open(&world).await.len(), recorded_aborts(&world).await),
            (1, 1),
            "{operation}"
        );
        assert_eq!(later(&world).await, 0, "{operation}: it fails again");
        assert_eq!(
            (open(&world).await.len(), recorded_aborts(&world).await),
            (1, 1),
            "{operation}"
        );
        assert_eq!(later(&world).await, 1, "{operation}");
        assert_eq!(
            (open(&world).await.len(), recorded_aborts(&world).await),
            (0, 0),
            "{operation}"
        );
    }
}

#[tokio::test]
async fn parts_of_an_upload_that_got_an_object_by_a_put_are_aborted() {
    let world = world().await;
    let upload = world.create(in_parts()).await;
    world.put(&upload, PNG).await;
    let seen = world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    assert_eq!(seen.status(), Status::Rejected);
    assert_eq!((open(&world).await.len(), recorded_aborts(&world).await), (1, 1));
    later(&world).await;
    assert_eq!((open(&world).await.len(), recorded_aborts(&world).await), (0, 0));
}

#[tokio::test]
async fn a_renewal_gets_new_parts_and_the_old_ones_are_still_aborted() {
    let world = world().await;
    let upload = world.create(in_parts()).await;
    world.store.fail_next(Operation::AbortMultipart, 1, down);
    world.pass_the_deadline();
    world.reconcile(Mode::Incremental).await;
    let renewed = world.app.renew_upload(&world.owner, upload.id, None).await.unwrap().upload;
    let id = renewed.multipart_id.unwrap();
    assert_eq!(open(&world).await.len(), 2);
    world.pass(TimeDelta::minutes(10));
    world.reconcile(Mode::Incremental).await;
    assert_eq!(open(&world).await, [id].into(), "only the new one is left");
    assert_eq!(recorded_aborts(&world).await, 0);
}

#[tokio::test]
async fn a_multipart_upload_opened_by_a_request_without_a_response_is_found() {
    let world = world().await;
    // As after a crash between the store's response and the write of the row.
    world.store.lose_next(Operation::CreateMultipart, 1);
    assert!(world.app.create_upload(&world.owner, in_parts()).await.is_err());
    assert_eq!((open(&world).await.len(), recorded_aborts(&world).await), (1, 1));
    world.pass(TimeDelta::minutes(5));
    world.reconcile(Mode::Incremental).await;
    assert_eq!(open(&world).await.len(), 1, "the request that created it may still be running");
    later(&world).await;
    assert_eq!((open(&world).await.len(), recorded_aborts(&world).await), (0, 0));
}

#[tokio::test]
async fn a_dry_run_aborts_nothing() {
    let world = world().await;
    let upload = world.create(in_parts()).await;
    world.store.fail_next(Operation::AbortMultipart, 1, down);
    world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    world.pass(TimeDelta::hours(1));
    world.reconcile_with(|request| request.dry_run = true, Mode::Audit).await;
    assert_eq!((open(&world).await.len(), recorded_aborts(&world).await), (1, 1));
}

/// Does one random operation with random failures. The failures cause errors, which are ignored.
async fn step(world: &World, rng: &mut StdRng, uploads: &mut Vec<Upload>) {
    match rng.random_range(0..5) {
        0 => world.store.fail_next(Operation::AbortMultipart, 1, down),
        1 => world.store.lose_next(Operation::AbortMultipart, 1),
        2 => world.store.fail_next(Operation::CreateMultipart, 1, down),
        3 => world.store.lose_next(Operation::CreateMultipart, 1),
        _ => {}
    }
    let (app, owner) = (&world.app, &world.owner);
    let which = rng.random_range(0..uploads.len().max(1));
    let Some(upload) = uploads.get(which).filter(|_| rng.random_bool(0.7)).cloned() else {
        uploads.extend(app.create_upload(owner, in_parts()).await.map(|created| created.upload));
        return;
    };
    match rng.random_range(0..8) {
        0 => drop(app.delete_upload(owner, upload.id).await),
        1 => drop(app.renew_upload(owner, upload.id, None).await),
        2 => drop(app.sign_parts(owner, upload.id, &[1], None).await),
        3 => drop(app.complete_upload(owner, upload.id, None).await),
        4 => {
            world.put(&upload, PNG).await;
            drop(app.confirm_upload(owner, upload.id).await);
        }
        5 => {
            world.pass(TimeDelta::minutes(40));
            world.reconcile(Mode::Incremental).await;
        }
        6 => world.pass_the_deadline(),
        _ => {
            let run = world.reconcile(Mode::Incremental);
            let (_, _) = tokio::join!(run, app.delete_upload(owner, upload.id));
        }
    }
}

#[tokio::test]
async fn no_sequence_of_events_and_failures_loses_parts() {
    for seed in 0..12 {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = world().await;
        let mut uploads = Vec::new();
        for _ in 0..40 {
            Box::pin(step(&world, &mut rng, &mut uploads)).await;
        }
        // The store works again. Incremental runs alone end all uploads and abort all multipart
        // uploads.
        world.store.heal();
        for upload in &uploads {
            world.app.delete_upload(&world.owner, upload.id).await.unwrap();
        }
        for _ in 0..3 {
            later(&world).await;
        }
        assert_eq!(open(&world).await, BTreeSet::new(), "seed {seed}");
        assert_eq!(recorded_aborts(&world).await, 0, "seed {seed}");
    }
}
