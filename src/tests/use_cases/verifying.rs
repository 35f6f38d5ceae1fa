//! Verification by an operator, after a wrong rejection or loss.

use chrono::TimeDelta;
use upload_coordinator::app::AppError;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::verify::Reverified;
use upload_coordinator::domain::run::{Mode, RunRequest, RunStatus, Trigger};
use upload_coordinator::domain::transition::TransitionError;
use upload_coordinator::domain::upload::{Declared, Deletion};
use upload_coordinator::domain::{RejectReason, Status, Subject, Track, Upload};
use upload_coordinator::storage::ObjectStore as _;
use upload_coordinator::storage::memory::Operation;

use crate::support::world::World;
use crate::support::{PNG, mp3};

/// A verified upload of a track.
async fn uploaded(world: &World, track: &Track) -> Upload {
    let declared = Declared { size: Some(900), ..Declared::default() };
    let upload = world
        .create(NewUpload {
            attach_to: Some(Subject::of_track(track.id)),
            declared,
            ..NewUpload::default()
        })
        .await;
    world.put(&upload, mp3(900, 1)).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap()
}

/// An upload of a track whose bytes were replaced, so that an audit rejected it.
async fn rejected(world: &World) -> (Track, Upload) {
    let track = world.track().await;
    let upload = uploaded(world, &track).await;
    world.put(&upload, mp3(901, 2)).await;
    world.reconcile(Mode::Audit).await;
    let upload = world.get(upload.id).await;
    assert_eq!(upload.status(), Status::Rejected);
    (track, upload)
}

fn refusal(error: AppError) -> TransitionError {
    match error {
        AppError::State(refused) => refused,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn replaced_bytes_are_accepted_and_the_file_is_served_again() {
    let world = World::new().await;
    let (track, upload) = rejected(&world).await;
    assert!(world.app.track_file(&world.owner, track.id).await.is_err());
    let refused = world.app.verify_upload(&world.owner, upload.id, false).await.unwrap_err();
    assert_eq!(refusal(refused), TransitionError::Changed);
    let verified = world.app.verify_upload(&world.owner, upload.id, true).await.unwrap();
    assert_eq!((verified.status(), verified.deletion), (Status::Uploaded, Deletion::default()));
    assert_eq!(verified.state.facts().unwrap().size, 901, "not the declared size");
    world.app.track_file(&world.owner, track.id).await.unwrap();
    let again = world.app.verify_upload(&world.owner, upload.id, false).await.unwrap();
    assert_eq!(again.version, verified.version, "repeating it changes nothing");
    world.pass(TimeDelta::hours(25));
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!((run.counters.deleted, run.counters.transitions()), (0, 0));
    world.app.track_file(&world.owner, track.id).await.unwrap();
}

#[tokio::test]
async fn restored_bytes_are_accepted_as_they_are() {
    let world = World::new().await;
    let (track, upload) = rejected(&world).await;
    let before = world.get(upload.id).await.state.ever_verified().cloned().unwrap();
    world.write_again(upload.key.as_str(), mp3(900, 1)).await;
    let verified = world.app.verify_upload(&world.owner, upload.id, false).await.unwrap();
    let now = verified.state.verified().unwrap();
    assert_eq!((now.at, now.confirmed_by), (before.at, before.confirmed_by));
    world.app.track_file(&world.owner, track.id).await.unwrap();
}

#[tokio::test]
async fn bytes_that_break_a_rule_stay_rejected_even_if_changes_are_accepted() {
    let world = World::new().await;
    let (_, replaced) = rejected(&world).await;
    world.put(&replaced, PNG).await;
    let received = world.upload().await;
    world.put(&received, PNG).await;
    world.reconcile(Mode::Incremental).await;
    for id in [replaced.id, received.id] {
        let refused = world.app.verify_upload(&world.owner, id, true).await.unwrap_err();
        let expected = TransitionError::StillInvalid(RejectReason::ContentMismatch);
        assert_eq!(refusal(refused), expected);
        assert_eq!(world.get(id).await.status(), Status::Rejected);
    }
}

#[tokio::test]
async fn verifying_an_older_upload_keeps_the_newer_file_of_the_track() {
    let world = World::new().await;
    let (track, older) = rejected(&world).await;
    let newer = uploaded(&world, &track).await;
    let verified = world.app.verify_upload(&world.owner, older.id, true).await.unwrap();
    assert_eq!(verified.status(), Status::Removed, "superseded");
    let (track, _) = world.app.track(&world.owner, track.id).await.unwrap();
    assert_eq!(track.current_upload, Some(newer.id));
}

#[tokio::test]
async fn only_uploads_with_an_object_that_were_verified_or_rejected_are_verified_again() {
    let world = World::new().await;
    let pending = world.upload().await;
    let refused = world.app.verify_upload(&world.owner, pending.id, true).await.unwrap_err();
    assert_eq!(refusal(refused), TransitionError::NotVerifiable(Status::Pending));
    let (_, upload) = rejected(&world).await;
    world.store.delete(upload.key.as_str()).await.unwrap();
    let refused = world.app.verify_upload(&world.owner, upload.id, true).await.unwrap_err();
    assert!(matches!(refused, AppError::NotArrived));
    // A missing upload whose object was restored.
    let track = world.track().await;
    let lost = uploaded(&world, &track).await;
    world.pass(TimeDelta::seconds(1));
    world.store.delete(lost.key.as_str()).await.unwrap();
    world.reconcile(Mode::Audit).await;
    assert_eq!(world.get(lost.id).await.status(), Status::Missing);
    assert!(world.app.verify_upload(&world.owner, lost.id, false).await.is_err());
    world.write_again(lost.key.as_str(), mp3(900, 1)).await;
    let found = world.app.verify_upload(&world.owner, lost.id, false).await.unwrap();
    assert_eq!(found.status(), Status::Uploaded);
    world.app.track_file(&world.owner, track.id).await.unwrap();
    let unknown = upload_coordinator::domain::UploadId(world.app.ids.uuid());
    assert!(matches!(
        world.app.verify_upload(&world.owner, unknown, true).await,
        Err(AppError::NotFound(_))
    ));
}

#[tokio::test]
async fn a_due_object_is_not_verified_while_a_run_may_delete_it() {
    let world = World::new().await;
    let (_, upload) = rejected(&world).await;
    world.pass(TimeDelta::hours(25));
    let gate = world.store.hold(Operation::Delete);
    let run = world.reconciler.start(RunRequest::of(Mode::Incremental, Trigger::Api)).await;
    let run = run.unwrap();
    gate.next_call().await;
    let refused = world.app.verify_upload(&world.owner, upload.id, true).await.unwrap_err();
    assert!(matches!(refused, AppError::RunMayDelete));
    gate.open();
    assert_eq!(run.wait().await.status, RunStatus::Succeeded);
    let gone = world.app.verify_upload(&world.owner, upload.id, true).await.unwrap_err();
    assert!(matches!(gone, AppError::NotArrived));
    // If no run is active it is verified, although its deletion was due.
    let (_, upload) = rejected(&world).await;
    world.pass(TimeDelta::hours(25));
    let verified = world.app.verify_upload(&world.owner, upload.id, true).await.unwrap();
    assert_eq!(verified.status(), Status::Uploaded);
    world.reconcile(Mode::Incremental).await;
    assert!(world.keys().await.contains(&upload.key.to_string()));
}

#[tokio::test]
async fn every_upload_that_a_run_rejected_is_verified_again() {
    let world = World::new().await;
    // Rejected by an earlier run or because of a client, not by this run.
    let (_, earlier) = rejected(&world).await;
    let by_client = world.upload().await;
    world.put(&by_client, PNG).await;
    world.app.confirm_upload(&world.owner, by_client.id).await.unwrap();
    let mut uploads = Vec::new();
    for _ in 0..3 {
        uploads.push(uploaded(&world, &world.track().await).await);
    }
    let received = world.upload().await;
    world.put(&received, PNG).await;
    for upload in &uploads {
        world.put(upload, mp3(901, 2)).await;
    }
    let dry = world.reconcile_with(|request| request.dry_run = true, Mode::Audit).await;
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!(run.counters.rejected, 4);
    let nothing = world.app.verify_rejected_by(&world.owner, dry.id, true).await.unwrap();
    assert_eq!(nothing, Reverified::default(), "a dry run rejects nothing");
    let refused = world.app.verify_rejected_by(&world.owner, run.id, false).await.unwrap();
    assert_eq!(refused, Reverified { refused: 4, ..Reverified::default() });
    world.store.delete(uploads[0].key.as_str()).await.unwrap();
    let expected = Reverified { verified: 2, refused: 1, absent: 1, ..Reverified::default() };
    assert_eq!(world.app.verify_rejected_by(&world.owner, run.id, true).await.unwrap(), expected);
    let expected = Reverified { verified: 0, unchanged: 2, ..expected };
    assert_eq!(world.app.verify_rejected_by(&world.owner, run.id, true).await.unwrap(), expected);
    for upload in &uploads[1..] {
        assert_eq!(world.get(upload.id).await.status(), Status::Uploaded);
    }
    assert_eq!(world.get(earlier.id).await.status(), Status::Rejected);
}
