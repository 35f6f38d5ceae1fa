//! Multipart uploads that expire, and that are renewed.

use chrono::TimeDelta;
use upload_coordinator::app::AppError;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::run::Mode;
use upload_coordinator::domain::transition::TransitionError;
use upload_coordinator::domain::{Status, Subject};
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::{ObjectStore as _, PartIntegrity, StoreError};

use super::{MIB, SIZE, complete, declared, open_multiparts, send, world};
use crate::support::mp3;

#[tokio::test]
async fn part_urls_extend_the_deadline_up_to_the_maximum_and_a_renewal_extends_it_further() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    let (hour, day) = (TimeDelta::hours(1), TimeDelta::hours(24));
    let begun = upload.created_at;
    world.pass(TimeDelta::minutes(50));
    let sign = || world.app.sign_parts(&world.owner, upload.id, &[1], None);
    let part = sign().await.unwrap().remove(0);
    let row = world.get(upload.id).await;
    assert_eq!(row.url_expires_at, world.app.now() + hour);
    assert!(part.request.expires_at <= row.url_expires_at);
    world.pass(TimeDelta::minutes(23 * 60));
    let last = sign().await.unwrap().remove(0);
    assert_eq!(world.get(upload.id).await.url_expires_at, begun + day);
    assert!(last.request.expires_at <= begun + day);
    world.pass(hour);
    let refused = sign().await;
    assert!(matches!(refused, Err(AppError::State(TransitionError::DeadlinePassed))));
    world.app.renew_upload(&world.owner, upload.id, None).await.unwrap();
    assert!(sign().await.unwrap()[0].request.expires_at > begun + day);
    let row = world.get(upload.id).await;
    assert_eq!(row.multipart_id, upload.multipart_id, "the parts are kept");
}

#[tokio::test]
async fn an_expired_multipart_upload_is_aborted_and_its_renewal_opens_a_new_one() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    let file = mp3(SIZE, 1);
    send(&world, &upload, &file, &[1]).await;
    world.pass_the_deadline();
    world.reconcile(Mode::Incremental).await;
    assert_eq!(world.get(upload.id).await.status(), Status::Expired);
    assert_eq!(open_multiparts(&world).await, 0);
    assert!(matches!(complete(&world, &upload).await, Err(AppError::PartsGone)));
    let refused = world.app.sign_parts(&world.owner, upload.id, &[1], None).await;
    let no_parts = TransitionError::TakesNoParts(Status::Expired);
    assert!(matches!(refused, Err(AppError::State(error)) if error == no_parts));
    let renewed = world.app.renew_upload(&world.owner, upload.id, None).await.unwrap().upload;
    assert_eq!((renewed.id, &renewed.key), (upload.id, &upload.key));
    assert_ne!(renewed.multipart_id, upload.multipart_id);
    send(&world, &renewed, &file, &[1, 2, 3]).await;
    assert_eq!(complete(&world, &renewed).await.unwrap().status(), Status::Uploaded);
}

#[tokio::test]
async fn an_upload_does_not_expire_while_parts_arrive() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    let id = upload.multipart_id.as_deref().unwrap();
    world.pass_the_deadline();
    // The transfer started before the URL expired, as with slow clients.
    let part = mp3(MIB * 5, 1).into();
    world
        .store
        .upload_part(upload.key.as_str(), id, 1, part, PartIntegrity::Signature)
        .await
        .unwrap();
    world.pass(TimeDelta::minutes(14));
    world.reconcile(Mode::Incremental).await;
    assert_eq!(world.get(upload.id).await.status(), Status::Pending);
    assert_eq!(open_multiparts(&world).await, 1);
    world.pass(TimeDelta::minutes(2));
    world.reconcile(Mode::Incremental).await;
    assert_eq!(world.get(upload.id).await.status(), Status::Expired);
    assert_eq!(open_multiparts(&world).await, 0);
}

#[tokio::test]
async fn an_upload_that_the_store_aborted_is_repaired_by_a_renewal() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    let old = upload.multipart_id.clone().unwrap();
    world.store.abort_multipart(upload.key.as_str(), &old).await.unwrap();
    let held = world.app.held_parts(&world.owner, upload.id).await;
    assert!(matches!(held, Err(AppError::PartsGone)));
    assert!(matches!(complete(&world, &upload).await, Err(AppError::PartsGone)));
    let renewed = world.app.renew_upload(&world.owner, upload.id, None).await.unwrap().upload;
    assert_ne!(renewed.multipart_id.unwrap(), old);
    send(&world, &upload, &mp3(SIZE, 1), &[1, 2, 3]).await;
    assert_eq!(complete(&world, &upload).await.unwrap().status(), Status::Uploaded);
}

#[tokio::test]
async fn a_creation_whose_store_is_down_leaves_nothing_pending() {
    let world = world().await;
    let track = world.track().await;
    let down = || StoreError::Unavailable("down".into());
    world.store.fail_next(Operation::CreateMultipart, 1, down);
    let new = NewUpload { attach_to: Some(Subject::of_track(track.id)), ..declared(SIZE) };
    let failed = world.app.create_upload(&world.owner, new).await;
    assert!(matches!(failed, Err(AppError::Store(StoreError::Unavailable(_)))));
    let (track, upload) = world.app.track(&world.owner, track.id).await.unwrap();
    assert_eq!(upload.unwrap().status(), Status::Cancelled);
    assert_eq!(track.status, Some(Status::Cancelled));
}

#[tokio::test]
async fn a_row_without_a_multipart_id_is_repaired_by_the_next_request() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    world.pass_the_deadline();
    world.reconcile(Mode::Incremental).await;
    // The store is down during the renewal.
    let down = || StoreError::Unavailable("down".into());
    world.store.fail_next(Operation::CreateMultipart, 1, down);
    let failed = world.app.renew_upload(&world.owner, upload.id, None).await;
    assert!(matches!(failed, Err(AppError::Store(_))));
    assert_eq!(world.get(upload.id).await.multipart_id, None);
    let sign = || world.app.sign_parts(&world.owner, upload.id, &[1], None);
    let (a, b) = tokio::join!(sign(), sign());
    a.unwrap();
    b.unwrap();
    assert_eq!(
        open_multiparts(&world).await,
        1,
        "the request that lost the race aborted its own upload"
    );
    send(&world, &upload, &mp3(SIZE, 1), &[1, 2, 3]).await;
    assert_eq!(complete(&world, &upload).await.unwrap().status(), Status::Uploaded);
}

#[tokio::test]
async fn a_deleted_upload_is_aborted_and_takes_no_more_parts() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    send(&world, &upload, &mp3(SIZE, 1), &[1]).await;
    world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    assert_eq!(open_multiparts(&world).await, 0);
    let refused = world.app.sign_parts(&world.owner, upload.id, &[2], None).await;
    assert!(matches!(refused, Err(AppError::State(_))));
    assert_eq!(complete(&world, &upload).await.unwrap().status(), Status::Cancelled);
}
