//! Completing multipart uploads.

use upload_coordinator::app::AppError;
use upload_coordinator::domain::Status;
use upload_coordinator::domain::checksum::{Algorithm, Checksum};
use upload_coordinator::domain::transition::Event;
use upload_coordinator::domain::upload::State;
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::{ObjectStore as _, PartIntegrity, StoreError};

use super::{SIZE, complete, declared, open_multiparts, send, world};
use crate::support::mp3;

#[tokio::test]
async fn part_numbers_that_are_out_of_range_repeated_or_missing_are_refused() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    let too_many: Vec<i64> = vec![1; 1001];
    for (numbers, sentence) in [
        (&[][..], "Must contain 1 to 1000 part numbers"),
        (&too_many, "Must contain 1 to 1000 part numbers"),
        (&[0], "0 is not a part: the parts are 1 to 3"),
        (&[-1], "-1 is not a part: the parts are 1 to 3"),
        (&[1, 4], "4 is not a part: the parts are 1 to 3"),
        (&[65_537], "65537 is not a part: the parts are 1 to 3"),
        (&[2, 1, 2], "2 occurs more than once"),
    ] {
        let refused = world.app.sign_parts(&world.owner, upload.id, numbers, None).await;
        let Err(AppError::Invalid(errors)) = refused else { panic!("{numbers:?}") };
        assert_eq!(errors.0["part_numbers"], [sentence]);
    }
    let whole = world.upload().await;
    let refused = world.app.sign_parts(&world.owner, whole.id, &[1], None).await;
    assert!(matches!(refused, Err(AppError::Invalid(_))), "its strategy is `put`");
    assert!(matches!(complete(&world, &whole).await, Err(AppError::Invalid(_))));
}

#[tokio::test]
async fn a_missing_part_or_a_part_of_another_size_is_named_and_can_be_sent_again() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    let file = mp3(SIZE, 1);
    let Err(AppError::Parts(none)) = complete(&world, &upload).await else { panic!() };
    assert_eq!(none.missing, [1, 2, 3]);
    send(&world, &upload, &file, &[1, 3]).await;
    let Err(AppError::Parts(hole)) = complete(&world, &upload).await else { panic!() };
    assert_eq!(hole.missing, [2]);
    let id = upload.multipart_id.as_deref().unwrap();
    let short = file[..100].to_vec().into();
    world
        .store
        .upload_part(upload.key.as_str(), id, 2, short, PartIntegrity::Signature)
        .await
        .unwrap();
    let Err(AppError::Parts(wrong)) = complete(&world, &upload).await else { panic!() };
    assert_eq!((wrong.missing.len(), wrong.wrong[0].number), (0, 2));
    assert_eq!(world.store.calls(Operation::CompleteMultipart), 0);
    send(&world, &upload, &file, &[2]).await;
    assert_eq!(complete(&world, &upload).await.unwrap().status(), Status::Uploaded);
}

#[tokio::test]
async fn a_completion_whose_response_was_lost_succeeds_when_it_is_repeated() {
    let world = world().await;
    for head_fails in [false, true] {
        let upload = world.create(declared(SIZE)).await;
        send(&world, &upload, &mp3(SIZE, 1), &[1, 2, 3]).await;
        if head_fails {
            // The object is created, and the store fails before the HEAD.
            let down = || StoreError::Unavailable("down".into());
            world.store.fail_next(Operation::Head, 1, down);
        } else {
            world.store.lose_next(Operation::CompleteMultipart, 1);
        }
        let lost = complete(&world, &upload).await;
        assert!(matches!(lost, Err(AppError::Store(StoreError::Unavailable(_)))));
        assert_eq!(world.get(upload.id).await.status(), Status::Pending);
        let again = complete(&world, &upload).await.unwrap();
        assert_eq!((again.status(), again.version), (Status::Uploaded, 3));
    }
    assert_eq!(world.store.calls(Operation::CompleteMultipart), 2);
}

#[tokio::test]
async fn two_completions_at_once_are_one_transition() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    send(&world, &upload, &mp3(SIZE, 1), &[1, 2, 3]).await;
    let gate = world.store.hold(Operation::CompleteMultipart);
    let both = async { tokio::join!(complete(&world, &upload), complete(&world, &upload)) };
    let opener = async {
        gate.next_call().await;
        gate.next_call().await;
        gate.open();
    };
    let ((a, b), ()) = tokio::join!(both, opener);
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((a.status(), &a), (Status::Uploaded, &b));
    assert_eq!(world.get(upload.id).await, a);
}

#[tokio::test]
async fn a_checksum_of_the_whole_file_is_checked_when_it_is_completed() {
    let world = world().await;
    let file = mp3(SIZE, 1);
    for algorithm in [Algorithm::Sha256, Algorithm::Crc64nvme] {
        for (bytes, status) in [(&file, Status::Uploaded), (&mp3(SIZE, 2), Status::Rejected)] {
            let mut new = declared(SIZE);
            new.declared.checksum = Some(Checksum::of(algorithm, &file));
            let upload = world.create(new).await;
            send(&world, &upload, bytes, &[1, 2, 3]).await;
            let done = complete(&world, &upload).await.unwrap();
            assert_eq!(done.status(), status, "{algorithm}");
            let recorded = done.state.facts().unwrap().checksum.clone();
            assert_eq!(recorded, Some(Checksum::of(algorithm, bytes)));
        }
    }
}

#[tokio::test]
async fn a_delete_during_a_completion_ends_the_upload_and_its_object() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    send(&world, &upload, &mp3(SIZE, 1), &[1, 2, 3]).await;
    let gate = world.store.hold(Operation::Head);
    let deleter = async {
        gate.next_call().await;
        world.app.apply(upload.clone(), &Event::Delete).await.unwrap();
        gate.open();
    };
    let (done, ()) = tokio::join!(complete(&world, &upload), deleter);
    let done = done.unwrap();
    assert_eq!(done.state, State::Cancelled);
    assert!(done.deletion.is_due(world.app.now()));
}

#[tokio::test]
async fn a_write_once_completion_keeps_an_existing_object_and_aborts_its_parts() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    assert!(upload.write_once);
    send(&world, &upload, &mp3(SIZE, 1), &[1, 2, 3]).await;
    world.put(&upload, mp3(900, 9)).await;
    let done = complete(&world, &upload).await.unwrap();
    assert_eq!(done.status(), Status::Rejected, "the object in the store decides");
    assert_eq!(open_multiparts(&world).await, 0);
}
