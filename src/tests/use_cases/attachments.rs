//! Attachments: one file for each subject, for all ways and orders in which uploads arrive.

use chrono::TimeDelta;
use futures_util::future::join_all;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::{App, AppError};
use upload_coordinator::domain::run::Mode;
use upload_coordinator::domain::transition::TransitionError;
use upload_coordinator::domain::upload::{RemoveReason, State};
use upload_coordinator::domain::{Owner, Status, Subject, TrackId, Upload};

use crate::support::mp3;
use crate::support::world::World;

fn cover() -> Subject {
    "album:42:cover".parse().unwrap()
}

async fn upload_for(world: &World, subject: &Subject) -> Upload {
    world.create(NewUpload { attach_to: Some(subject.clone()), ..NewUpload::default() }).await
}

/// A verified upload that belongs to no subject.
async fn verified(world: &World, seed: u8) -> Upload {
    let upload = world.upload().await;
    arrive(world, &upload, seed).await
}

async fn arrive(world: &World, upload: &Upload, seed: u8) -> Upload {
    world.put(upload, mp3(900, seed)).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap()
}

/// The ids of the newest and the current upload of a subject.
async fn uploads_of(
    world: &World,
    subject: &Subject,
) -> (Option<upload_coordinator::domain::UploadId>, Option<upload_coordinator::domain::UploadId>) {
    let of = world.app.attachment(&world.owner, subject).await.unwrap();
    assert_eq!(of.latest.as_ref().map(Upload::status), of.attachment.status);
    (of.latest.map(|upload| upload.id), of.current.map(|upload| upload.id))
}

#[tokio::test]
async fn a_subject_serves_its_old_file_until_the_new_one_is_verified() {
    let world = World::new().await;
    let old = upload_for(&world, &cover()).await;
    assert_eq!(uploads_of(&world, &cover()).await, (Some(old.id), None));
    arrive(&world, &old, 1).await;
    let new = upload_for(&world, &cover()).await;
    assert_eq!(uploads_of(&world, &cover()).await, (Some(new.id), Some(old.id)));
    assert!(world.app.attachment_file(&world.owner, &cover()).await.is_ok());
    arrive(&world, &new, 2).await;
    assert_eq!(uploads_of(&world, &cover()).await, (Some(new.id), Some(new.id)));
    let old = world.get(old.id).await;
    assert!(matches!(old.state, State::Removed { reason: RemoveReason::Superseded, .. }));
    assert!(old.deletion.after.is_some());
}

#[tokio::test]
async fn a_verified_upload_that_is_attached_later_is_the_file_at_once() {
    let world = World::new().await;
    let first = verified(&world, 1).await;
    let (of, status) = world.app.attach(&world.owner, &cover(), first.id).await.unwrap();
    assert_eq!((status, of.current.map(|upload| upload.id)), (Status::Uploaded, Some(first.id)));
    // An upload gets its sequence number when it is attached, not when it is created.
    let late = world.upload().await;
    let pending = upload_for(&world, &cover()).await;
    let (_, status) = world.app.attach(&world.owner, &cover(), late.id).await.unwrap();
    assert_eq!(status, Status::Pending);
    assert_eq!(uploads_of(&world, &cover()).await, (Some(late.id), Some(first.id)));
    arrive(&world, &late, 2).await;
    arrive(&world, &pending, 3).await;
    assert_eq!(uploads_of(&world, &cover()).await, (Some(late.id), Some(late.id)));
    assert_eq!(world.get(pending.id).await.status(), Status::Removed);
}

#[tokio::test]
async fn attaching_again_changes_nothing_and_attaching_elsewhere_is_refused() {
    let world = World::new().await;
    let upload = verified(&world, 1).await;
    world.app.attach(&world.owner, &cover(), upload.id).await.unwrap();
    let attached = world.get(upload.id).await;
    world.app.attach(&world.owner, &cover(), upload.id).await.unwrap();
    assert_eq!(world.get(upload.id).await, attached);
    let other: Subject = "album:42:back".parse().unwrap();
    let refused = world.app.attach(&world.owner, &other, upload.id).await;
    assert!(
        matches!(refused, Err(AppError::State(TransitionError::AttachedElsewhere))),
        "{refused:?}"
    );
    let none = world.app.attachment(&world.owner, &other).await;
    assert!(matches!(none, Err(AppError::NotFound("attachment"))), "{none:?}");

    let ended = world.upload().await;
    world.app.delete_upload(&world.owner, ended.id).await.unwrap();
    let refused = world.app.attach(&world.owner, &cover(), ended.id).await;
    let expected = TransitionError::NotAttachable(Status::Cancelled);
    assert!(matches!(refused, Err(AppError::State(error)) if error == expected), "{refused:?}");
}

#[tokio::test]
async fn a_deleted_attachment_ends_its_uploads_and_its_sequence_continues() {
    let world = World::new().await;
    let (old, pending) = (upload_for(&world, &cover()).await, upload_for(&world, &cover()).await);
    arrive(&world, &old, 1).await;
    world.app.delete_attachment(&world.owner, &cover()).await.unwrap();
    assert_eq!(world.get(old.id).await.status(), Status::Removed);
    assert_eq!(world.get(pending.id).await.status(), Status::Cancelled);
    let gone = world.app.attachment(&world.owner, &cover()).await;
    assert!(matches!(gone, Err(AppError::NotFound("attachment"))), "{gone:?}");
    let again = world.app.delete_attachment(&world.owner, &cover()).await;
    assert!(matches!(again, Err(AppError::NotFound("attachment"))), "{again:?}");
    let new = upload_for(&world, &cover()).await;
    assert_eq!(new.slot.as_ref().map(|slot| slot.sequence), Some(3));
    arrive(&world, &new, 2).await;
    assert_eq!(uploads_of(&world, &cover()).await, (Some(new.id), Some(new.id)));
}

#[tokio::test]
async fn a_track_is_a_record_whose_file_is_an_attachment() {
    let world = World::new().await;
    let track = world.track().await;
    let subject = Subject::of_track(track.id);
    let upload = verified(&world, 1).await;
    world.app.attach(&world.owner, &subject, upload.id).await.unwrap();
    let (track, newest) = world.app.track(&world.owner, track.id).await.unwrap();
    assert_eq!((track.current_upload, track.status), (Some(upload.id), Some(Status::Uploaded)));
    assert_eq!(newest.and_then(|newest| newest.track()), Some(track.id));

    world.app.delete_attachment(&world.owner, &subject).await.unwrap();
    let (track, newest) = world.app.track(&world.owner, track.id).await.unwrap();
    assert_eq!((track.current_upload, track.status, newest), (None, None, None));

    let nobody = Subject::of_track(TrackId(uuid::Uuid::nil()));
    let upload = verified(&world, 2).await;
    let refused = world.app.attach(&world.owner, &nobody, upload.id).await;
    assert!(matches!(refused, Err(AppError::NotFound("track"))), "{refused:?}");
    let stranger = Owner::named("stranger");
    let refused = world.app.attach(&stranger, &subject, upload.id).await;
    assert!(matches!(refused, Err(AppError::NotFound("track"))), "{refused:?}");
}

#[tokio::test]
async fn two_owners_can_use_the_same_subject() {
    let world = World::new().await;
    let stranger = Owner::named("stranger");
    let mine = upload_for(&world, &cover()).await;
    let new = NewUpload { attach_to: Some(cover()), ..NewUpload::default() };
    let theirs = world.app.create_upload(&stranger, new).await.unwrap().upload;
    assert_eq!(theirs.slot, mine.slot, "each has its own sequence");
    let of = world.app.attachment(&stranger, &cover()).await.unwrap();
    assert_eq!(of.latest.map(|upload| upload.id), Some(theirs.id));
    world.app.delete_attachment(&stranger, &cover()).await.unwrap();
    assert_eq!(world.get(mine.id).await.status(), Status::Pending);
}

#[tokio::test]
async fn three_replicas_that_attach_at_once_leave_one_file_and_end_the_others() {
    let world = World::new().await;
    let replicas: Vec<App> = join_all((0..3).map(|_| world.replica())).await;
    let mut uploads = Vec::new();
    for seed in 0..12 {
        uploads.push(verified(&world, seed).await);
    }
    let attached = uploads.iter().enumerate().map(|(n, upload)| {
        let app = &replicas[n % replicas.len()];
        let (owner, subject) = (&world.owner, cover());
        async move { app.attach(owner, &subject, upload.id).await }
    });
    for attached in join_all(attached).await {
        attached.unwrap();
    }
    let (latest, current) = uploads_of(&world, &cover()).await;
    assert_eq!(latest, current);
    let mut sequences = Vec::new();
    for upload in &uploads {
        let upload = world.get(upload.id).await;
        let is_file = Some(upload.id) == current;
        let expected = if is_file { Status::Uploaded } else { Status::Removed };
        assert_eq!(upload.status(), expected);
        sequences.push(upload.slot.unwrap().sequence);
    }
    sequences.sort_unstable();
    assert!(sequences.iter().copied().eq(1..=12), "{sequences:?}");
}

/// A world that removes uploads that are unattached for a day, starting now.
async fn world_with_retention() -> World {
    let world = World::with(|policy| policy.unattached_retention = Some(TimeDelta::days(1))).await;
    world.reconcile(Mode::Incremental).await;
    world
}

#[tokio::test]
async fn a_verified_upload_that_no_record_claims_in_time_is_removed() {
    let world = world_with_retention().await;
    let (lost, claimed) = (verified(&world, 1).await, verified(&world, 2).await);
    let pending = world.upload().await;
    world.app.attach(&world.owner, &cover(), claimed.id).await.unwrap();
    world.pass(TimeDelta::hours(23));
    world.reconcile(Mode::Incremental).await;
    assert_eq!(world.get(lost.id).await.status(), Status::Uploaded, "there is an hour left");

    world.pass(TimeDelta::hours(2));
    let dry = world.reconcile_with(|request| request.dry_run = true, Mode::Incremental).await;
    assert_eq!(dry.counters.deleted, 1, "what a real run would delete: {dry:?}");
    assert_eq!(world.get(lost.id).await.status(), Status::Uploaded, "a dry run changes nothing");
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!((run.counters.confirmed, run.counters.deleted), (0, 1), "{run:?}");
    let removed = world.get(lost.id).await;
    assert!(matches!(removed.state, State::Removed { reason: RemoveReason::Unattached, .. }));
    assert!(removed.deletion.done.is_some());
    assert_eq!(world.get(claimed.id).await.status(), Status::Uploaded);
    assert_ne!(world.get(pending.id).await.status(), Status::Removed);
    assert!(world.keys().await.contains(&claimed.key.to_string()));
    assert!(!world.keys().await.contains(&lost.key.to_string()));
}

#[tokio::test]
async fn time_before_the_retention_was_enabled_does_not_count() {
    let world = World::with(|policy| policy.unattached_retention = Some(TimeDelta::days(1))).await;
    let upload = verified(&world, 1).await;
    world.pass(TimeDelta::days(30));
    // The first run with the retention.
    world.reconcile(Mode::Incremental).await;
    world.pass(TimeDelta::hours(23));
    world.reconcile(Mode::Incremental).await;
    assert_eq!(world.get(upload.id).await.status(), Status::Uploaded);
    world.pass(TimeDelta::hours(2));
    world.reconcile(Mode::Incremental).await;
    assert_eq!(world.get(upload.id).await.status(), Status::Removed);
}

#[tokio::test]
async fn an_upload_that_is_attached_during_its_removal_is_attached_or_removed() {
    let world = world_with_retention().await;
    let mut uploads = Vec::new();
    for seed in 0..40 {
        uploads.push(verified(&world, seed).await);
    }
    world.pass(TimeDelta::hours(25));
    let replica = world.replica().await;
    let attached = join_all(uploads.iter().enumerate().map(|(n, upload)| {
        let subject: Subject = format!("album:{n}").parse().unwrap();
        let (replica, owner) = (&replica, &world.owner);
        async move { replica.attach(owner, &subject, upload.id).await.is_ok() }
    }));
    let (attached, _) = tokio::join!(attached, world.reconcile(Mode::Incremental));
    world.reconcile(Mode::Incremental).await;
    for (upload, attached) in uploads.iter().zip(attached) {
        let status = world.get(upload.id).await.status();
        assert_eq!(status == Status::Uploaded, attached, "{status:?}");
        assert_eq!(world.keys().await.contains(&upload.key.to_string()), attached);
    }
}
