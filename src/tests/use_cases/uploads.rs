//! Creating, confirming, renewing and deleting uploads.

use std::time::Duration;

use chrono::TimeDelta;
use upload_coordinator::app::AppError;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::checksum::{Algorithm, Checksum};
use upload_coordinator::domain::transition::Event;
use upload_coordinator::domain::upload::Declared;
use upload_coordinator::domain::{Owner, Status, Subject};
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::{ObjectStore as _, StoreError};

use crate::support::world::World;
use crate::support::{ID3, PNG, mp3};

#[tokio::test]
async fn an_upload_is_confirmed_once_its_bytes_are_there() {
    let world = World::new().await;
    let upload = world.upload().await;
    let early = world.app.confirm_upload(&world.owner, upload.id).await;
    assert!(matches!(early, Err(AppError::NotArrived)));
    world.put(&upload, mp3(900, 1)).await;
    let confirmed = world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    assert_eq!(confirmed.status(), Status::Uploaded);
    let facts = confirmed.state.facts().unwrap();
    assert_eq!((facts.size, facts.content_type.as_deref()), (900, Some("audio/mpeg")));
    let again = world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    assert_eq!(again, confirmed, "a second confirmation writes nothing");
    assert_eq!(world.get(upload.id).await, confirmed, "the saved row is read back unchanged");
}

#[tokio::test]
async fn bytes_that_break_a_rule_are_rejected_with_the_reason() {
    let world = World::with(|policy| policy.max_size = 1000).await;
    let form = [b"--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n", ID3].concat();
    let wrong_size = Declared { size: Some(900), ..Declared::default() };
    let sum = Checksum::of(Algorithm::Sha256, b"other");
    let wrong_sum = Declared { checksum: Some(sum), ..Declared::default() };
    let cases = [
        (Declared::default(), form, "multipart-envelope"),
        (Declared::default(), PNG.to_vec(), "content-mismatch"),
        (Declared::default(), mp3(1001, 1), "too-large"),
        (Declared::default(), vec![], "empty"),
        (wrong_size, mp3(901, 1), "size-mismatch"),
        (wrong_sum, mp3(900, 1), "checksum-mismatch"),
    ];
    for (declared, bytes, reason) in cases {
        let new = NewUpload { declared, ..NewUpload::default() };
        let upload = world.create(new).await;
        world.put(&upload, bytes).await;
        let rejected = world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
        assert_eq!(rejected.status(), Status::Rejected, "{reason}");
        let view = format!("{:?}", rejected.state);
        let name = match &rejected.state {
            upload_coordinator::domain::upload::State::Rejected { reason, .. } => reason.name(),
            _ => panic!("{view}"),
        };
        assert_eq!(name, reason);
        assert!(rejected.deletion.after.is_some());
    }
}

#[tokio::test]
async fn a_checksum_that_the_store_does_not_keep_is_checked_by_reading() {
    let world = World::new().await;
    for algorithm in Algorithm::ALL {
        let bytes = mp3(5000, 7);
        let checksum = Some(Checksum::of(algorithm, &bytes));
        let declared = Declared { checksum, size: Some(5000), ..Declared::default() };
        let upload = world.create(NewUpload { declared, ..NewUpload::default() }).await;
        world.put(&upload, bytes).await;
        let confirmed = world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
        assert_eq!(confirmed.status(), Status::Uploaded, "{algorithm}");
    }
}

#[tokio::test]
async fn renewing_keeps_id_and_key_and_moves_the_deadline() {
    let world = World::new().await;
    let upload = world.upload().await;
    world.pass(TimeDelta::minutes(30));
    let renewed = world.app.renew_upload(&world.owner, upload.id, Some(7200)).await.unwrap();
    let request = renewed.request.unwrap();
    assert_eq!((renewed.upload.id, &renewed.upload.key), (upload.id, &upload.key));
    assert_eq!(renewed.upload.url_expires_at, request.expires_at);
    assert!(request.url.contains(upload.key.as_str()));
    world.put(&upload, mp3(900, 1)).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    let late = world.app.renew_upload(&world.owner, upload.id, None).await;
    assert!(matches!(late, Err(AppError::State(_))));
}

#[tokio::test]
async fn another_owner_does_not_find_the_upload() {
    let world = World::new().await;
    let upload = world.upload().await;
    let track = world.track().await;
    let stranger = Owner::named("stranger");
    let is_missing = |result: Result<(), AppError>| matches!(result, Err(AppError::NotFound(_)));
    assert!(is_missing(world.app.upload(&stranger, upload.id).await.map(drop)));
    assert!(is_missing(world.app.confirm_upload(&stranger, upload.id).await.map(drop)));
    assert!(is_missing(world.app.renew_upload(&stranger, upload.id, None).await.map(drop)));
    assert!(is_missing(world.app.delete_upload(&stranger, upload.id).await));
    assert!(is_missing(world.app.track(&stranger, track.id).await.map(drop)));
    assert!(is_missing(world.app.delete_track(&stranger, track.id).await));
    let new = NewUpload { attach_to: Some(Subject::of_track(track.id)), ..NewUpload::default() };
    assert!(is_missing(world.app.create_upload(&stranger, new).await.map(drop)));
    assert_eq!(world.get(upload.id).await, upload);
}

#[tokio::test]
async fn a_deleted_upload_stays_deleted_although_bytes_arrive() {
    let world = World::new().await;
    let upload = world.upload().await;
    world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    world.put(&upload, mp3(900, 1)).await;
    let seen = world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    assert_eq!(seen.status(), Status::Cancelled);
    assert!(seen.deletion.is_due(world.app.now()));
}

#[tokio::test]
async fn a_lost_race_is_decided_again_on_the_new_row() {
    let world = World::new().await;
    let stale = world.upload().await;
    world.put(&stale, mp3(900, 1)).await;
    let confirmed = world.app.confirm_upload(&world.owner, stale.id).await.unwrap();
    // A writer that read the row before the last change.
    let ended = world.app.apply(stale.clone(), &Event::Delete).await.unwrap();
    assert_eq!(ended.upload.status(), Status::Removed, "it was uploaded, so it is not cancelled");
    assert_eq!(ended.upload.version, confirmed.version + 1);
}

#[tokio::test]
async fn two_confirmations_at_once_are_one_transition() {
    let world = World::new().await;
    for seed in 0..10 {
        let upload = world.upload().await;
        world.put(&upload, mp3(900, seed)).await;
        let confirm = || world.app.confirm_upload(&world.owner, upload.id);
        let (a, b, c) = tokio::join!(confirm(), confirm(), confirm());
        let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
        assert_eq!((a.version, b.version, c.version), (2, 2, 2));
    }
}

#[tokio::test]
async fn an_object_that_is_replaced_during_validation_is_validated_again() {
    let world = World::new().await;
    let upload = world.upload().await;
    world.put(&upload, mp3(900, 1)).await;
    world.store.fail_next(Operation::Read, 1, || StoreError::PreconditionFailed);
    let confirmed = world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    assert_eq!(confirmed.status(), Status::Uploaded);
}

#[tokio::test]
async fn a_store_that_is_down_changes_nothing() {
    let world = World::new().await;
    let upload = world.upload().await;
    world.put(&upload, mp3(900, 1)).await;
    let down = || StoreError::Unavailable("down".into());
    world.store.fail_next(Operation::Head, 1, down);
    let failed = world.app.confirm_upload(&world.owner, upload.id).await;
    assert!(matches!(failed, Err(AppError::Store(StoreError::Unavailable(_)))));
    assert_eq!(world.get(upload.id).await, upload);
    assert!(world.store.head(upload.key.as_str()).await.unwrap().is_some());
}

#[tokio::test]
async fn declared_values_are_checked_before_anything_is_written() {
    let world = World::new().await;
    let bad = [
        NewUpload { expires_in: Some(0), ..NewUpload::default() },
        NewUpload { expires_in: Some(86_401), ..NewUpload::default() },
        NewUpload {
            declared: Declared { filename: Some("a.exe".into()), ..Declared::default() },
            ..NewUpload::default()
        },
        NewUpload { metadata: [("Ü".to_owned(), "x".to_owned())].into(), ..NewUpload::default() },
    ];
    for new in bad {
        let refused = world.app.create_upload(&world.owner, new.clone()).await;
        assert!(matches!(refused, Err(AppError::Invalid(_))), "{new:?}");
    }
    let filter = upload_coordinator::db::uploads::UploadFilter { limit: 10, ..Default::default() };
    let page = world.app.db.uploads().list(&world.owner, &filter).await.unwrap();
    assert!(page.items.is_empty());
}

#[tokio::test]
async fn a_caller_that_disconnects_does_not_lose_the_writes_of_others() {
    let world = World::new().await;
    let other = world.replica().await;
    let track = world.track().await;
    for step in 0..100 {
        let new =
            NewUpload { attach_to: Some(Subject::of_track(track.id)), ..NewUpload::default() };
        let create = world.app.create_upload(&world.owner, new);
        // The caller is dropped at any point: while the change waits for a connection, starts its
        // transaction, writes or commits.
        drop(tokio::time::timeout(Duration::from_micros(step * 30), create).await);
        let written = world.track().await;
        let read = other.track(&world.owner, written.id).await;
        assert_eq!(read.unwrap().0, written);
    }
}
