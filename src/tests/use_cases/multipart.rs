//! Uploads in parts: planned, sent, resumed, completed, given up.

use chrono::TimeDelta;
use upload_coordinator::app::AppError;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::checksum::{Algorithm, Checksum};
use upload_coordinator::domain::parts::MIN_PART_SIZE;
use upload_coordinator::domain::run::Mode;
use upload_coordinator::domain::transition::{Event, TransitionError};
use upload_coordinator::domain::upload::{Declared, State, Strategy};
use upload_coordinator::domain::{Status, Upload};
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::{ObjectStore as _, StoreError, Vouched};

use crate::support::mp3;
use crate::support::world::World;

const MIB: usize = 1 << 20;

/// Two whole parts and a bit.
const SIZE: usize = 11 * MIB;

async fn world() -> World {
    World::with(|policy| policy.part_size = MIN_PART_SIZE).await
}

fn declared(size: usize) -> NewUpload {
    let declared = Declared {
        filename: Some("song.mp3".into()),
        content_type: Some("audio/mpeg".into()),
        size: Some(size as u64),
        checksum: None,
    };
    NewUpload { declared, strategy: Some(Strategy::Multipart), ..NewUpload::default() }
}

/// Sends these parts of a file, as a client does with its signed requests.
async fn send(world: &World, upload: &Upload, file: &[u8], numbers: &[u16]) {
    let plan = upload.parts().expect("a plan");
    let asked: Vec<i64> = numbers.iter().map(|n| i64::from(*n)).collect();
    let signed = world.app.sign_parts(&world.owner, upload.id, &asked, None).await.unwrap();
    let row = world.get(upload.id).await;
    let id = row.multipart_id.as_deref().expect("it is open");
    for part in signed {
        assert!(part.request.url.contains(&format!("partNumber={}&", part.number)));
        assert!(part.request.url.contains(&format!("uploadId={id}")));
        let begin = usize::from(part.number - 1) * usize::try_from(plan.part_size()).unwrap();
        let len = usize::try_from(plan.len_of(part.number).unwrap()).unwrap();
        let body = file[begin..begin + len].to_vec().into();
        world
            .store
            .upload_part(row.key.as_str(), id, part.number, body, Vouched::BySignature)
            .await
            .unwrap();
    }
}

async fn complete(world: &World, upload: &Upload) -> Result<Upload, AppError> {
    world.app.complete_upload(&world.owner, upload.id).await
}

async fn open_multiparts(world: &World) -> usize {
    world.store.list_multiparts("", None).await.unwrap().0.len()
}

#[tokio::test]
async fn a_file_sent_in_parts_is_uploaded_with_its_type_metadata_and_etag() {
    let world = world().await;
    let metadata = [("source".to_owned(), "phone".to_owned())].into();
    let upload = world.create(NewUpload { metadata, ..declared(SIZE) }).await;
    let plan = upload.parts().unwrap();
    assert_eq!((plan.part_size(), plan.part_count()), (MIN_PART_SIZE, 3));
    let file = mp3(SIZE, 1);
    send(&world, &upload, &file, &[3, 1]).await;
    let held = world.app.held_parts(&world.owner, upload.id).await.unwrap();
    assert_eq!(held.iter().map(|part| part.number).collect::<Vec<_>>(), [1, 3]);
    send(&world, &upload, &file, &[2]).await;
    let done = complete(&world, &upload).await.unwrap();
    assert_eq!(done.status(), Status::Uploaded);
    let facts = done.state.facts().unwrap();
    assert_eq!((facts.size, &facts.etag[32..]), (SIZE as u64, "-3"));
    let meta = world.store.head(done.key.as_str()).await.unwrap().unwrap();
    assert_eq!(meta.content_type.as_deref(), Some("audio/mpeg"));
    assert_eq!(meta.metadata["source"], "phone");
    let stored = world.store.read(done.key.as_str(), 0..SIZE as u64, &meta.etag).await.unwrap();
    assert!(stored == file);
    assert_eq!(complete(&world, &upload).await.unwrap(), done, "again: nothing changes");
    assert!(world.app.held_parts(&world.owner, upload.id).await.unwrap().is_empty());
    assert_eq!(world.get(upload.id).await, done);
}

#[tokio::test]
async fn auto_is_in_parts_from_the_threshold_up_and_a_put_below() {
    let threshold = 64 << 20;
    let world = World::with(|policy| policy.max_size = 20 << 30).await;
    for (size, strategy) in [
        (None, Strategy::Put),
        (Some(1), Strategy::Put),
        (Some(threshold - 1), Strategy::Put),
        (Some(threshold), Strategy::Multipart),
        (Some((5 << 30) + 1), Strategy::Multipart),
    ] {
        let declared = Declared { size, ..Declared::default() };
        let new = NewUpload { declared, ..NewUpload::default() };
        let created = world.app.create_upload(&world.owner, new).await.unwrap();
        assert_eq!(created.upload.strategy, strategy, "{size:?}");
        assert_eq!(created.request.is_none(), strategy == Strategy::Multipart);
        let open = created.upload.multipart_id.is_some();
        assert_eq!((open, created.upload.parts().is_some()), {
            let in_parts = strategy == Strategy::Multipart;
            (in_parts, in_parts)
        });
    }
}

#[tokio::test]
async fn sizes_and_checksums_that_can_not_be_in_parts_are_refused_by_field() {
    let world = World::with(|policy| policy.max_size = u64::MAX).await;
    let sum = Some(Checksum::of(Algorithm::Sha256, b"x"));
    let multipart = |size, checksum: Option<Checksum>| NewUpload {
        declared: Declared { size, checksum, ..Declared::default() },
        strategy: Some(Strategy::Multipart),
        ..NewUpload::default()
    };
    let put = |size| NewUpload { strategy: Some(Strategy::Put), ..multipart(Some(size), None) };
    for (new, field) in [
        (multipart(None, None), "size"),
        (multipart(Some(0), None), "size"),
        (multipart(Some((5 << 40) + 1), None), "size"),
        (multipart(Some((64 << 20) + 1), sum.clone()), "checksum"),
        (put((5 << 30) + 1), "size"),
        (NewUpload { strategy: Some(Strategy::Direct), ..NewUpload::default() }, "strategy"),
    ] {
        let refused = world.app.create_upload(&world.owner, new.clone()).await;
        let Err(AppError::Invalid(errors)) = refused else { panic!("{new:?}: {refused:?}") };
        assert_eq!(errors.0.keys().collect::<Vec<_>>(), [field], "{new:?}");
        assert_eq!(errors.0[field].len(), 1, "{errors:?}");
    }
    for size in [1, MIN_PART_SIZE - 1, MIN_PART_SIZE, MIN_PART_SIZE + 1, 5 << 30, 5 << 40] {
        let created = world.create(multipart(Some(size), None)).await;
        assert_eq!(created.status(), Status::Pending, "{size}");
    }
    world.create(multipart(Some(64 << 20), sum)).await;
    let crc = Some(Checksum::of(Algorithm::Crc64nvme, b"x"));
    world.create(multipart(Some(5 << 40), crc)).await;
    assert_eq!(world.store.calls(Operation::CreateMultipart), 8, "refused before it is opened");
}

#[tokio::test]
async fn part_numbers_out_of_range_doubled_or_missing_are_refused() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    let too_many: Vec<i64> = vec![1; 1001];
    for (numbers, sentence) in [
        (&[][..], "Must be from 1 to 1000 numbers"),
        (&too_many, "Must be from 1 to 1000 numbers"),
        (&[0], "0 is none of the parts: they are 1 to 3"),
        (&[-1], "-1 is none of the parts: they are 1 to 3"),
        (&[1, 4], "4 is none of the parts: they are 1 to 3"),
        (&[65_537], "65537 is none of the parts: they are 1 to 3"),
        (&[2, 1, 2], "2 is there twice"),
    ] {
        let refused = world.app.sign_parts(&world.owner, upload.id, numbers, None).await;
        let Err(AppError::Invalid(errors)) = refused else { panic!("{numbers:?}") };
        assert_eq!(errors.0["part_numbers"], [sentence]);
    }
    let whole = world.upload().await;
    let refused = world.app.sign_parts(&world.owner, whole.id, &[1], None).await;
    assert!(matches!(refused, Err(AppError::Invalid(_))), "it is a put");
    assert!(matches!(complete(&world, &whole).await, Err(AppError::Invalid(_))));
}

#[tokio::test]
async fn a_hole_or_a_part_of_another_size_is_named_and_can_be_mended() {
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
    world.store.upload_part(upload.key.as_str(), id, 2, short, Vouched::BySignature).await.unwrap();
    let Err(AppError::Parts(wrong)) = complete(&world, &upload).await else { panic!() };
    assert_eq!((wrong.missing.len(), wrong.wrong[0].number), (0, 2));
    assert_eq!(world.store.calls(Operation::CompleteMultipart), 0);
    send(&world, &upload, &file, &[2]).await;
    assert_eq!(complete(&world, &upload).await.unwrap().status(), Status::Uploaded);
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_is_found_finished() {
    let world = world().await;
    for head_fails in [false, true] {
        let upload = world.create(declared(SIZE)).await;
        send(&world, &upload, &mp3(SIZE, 1), &[1, 2, 3]).await;
        if head_fails {
            // The object is made, and the store dies before it is looked at.
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
        gate.arrival().await;
        gate.arrival().await;
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
async fn part_urls_move_the_deadline_up_to_the_maximum_and_presign_gives_more() {
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
async fn an_upload_that_expired_is_aborted_and_renewed_with_a_new_one_of_the_store() {
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
async fn parts_that_still_come_keep_an_upload_from_expiring() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    let id = upload.multipart_id.as_deref().unwrap();
    world.pass_the_deadline();
    // Sent with a URL that began before its end, as slow clients do.
    let part = mp3(MIB * 5, 1).into();
    world.store.upload_part(upload.key.as_str(), id, 1, part, Vouched::BySignature).await.unwrap();
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
async fn an_upload_that_the_store_aborted_by_itself_is_mended_by_presign() {
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
    let new = NewUpload { track: Some(track.id), ..declared(SIZE) };
    let failed = world.app.create_upload(&world.owner, new).await;
    assert!(matches!(failed, Err(AppError::Store(StoreError::Unavailable(_)))));
    let (track, upload) = world.app.track(&world.owner, track.id).await.unwrap();
    assert_eq!(upload.unwrap().status(), Status::Cancelled);
    assert_eq!(track.status, Some(Status::Cancelled));
}

#[tokio::test]
async fn a_row_without_an_open_upload_is_repaired_by_whoever_needs_it() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    world.pass_the_deadline();
    world.reconcile(Mode::Incremental).await;
    // Renewed, and the store is down just then.
    let down = || StoreError::Unavailable("down".into());
    world.store.fail_next(Operation::CreateMultipart, 1, down);
    let failed = world.app.renew_upload(&world.owner, upload.id, None).await;
    assert!(matches!(failed, Err(AppError::Store(_))));
    assert_eq!(world.get(upload.id).await.multipart_id, None);
    let sign = || world.app.sign_parts(&world.owner, upload.id, &[1], None);
    let (a, b) = tokio::join!(sign(), sign());
    a.unwrap();
    b.unwrap();
    assert_eq!(open_multiparts(&world).await, 1, "the loser of the race aborted its own");
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

#[tokio::test]
async fn a_delete_during_a_completion_ends_the_upload_and_its_object() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    send(&world, &upload, &mp3(SIZE, 1), &[1, 2, 3]).await;
    let gate = world.store.hold(Operation::Head);
    let deleter = async {
        gate.arrival().await;
        world.app.apply(upload.clone(), &Event::Delete).await.unwrap();
        gate.open();
    };
    let (done, ()) = tokio::join!(complete(&world, &upload), deleter);
    let done = done.unwrap();
    assert_eq!(done.state, State::Cancelled);
    assert!(done.deletion.is_due(world.app.now()));
}

#[tokio::test]
async fn a_write_once_completion_leaves_an_object_that_is_there_and_drops_its_parts() {
    let world = world().await;
    let upload = world.create(declared(SIZE)).await;
    assert!(upload.write_once);
    send(&world, &upload, &mp3(SIZE, 1), &[1, 2, 3]).await;
    world.put(&upload, mp3(900, 9)).await;
    let done = complete(&world, &upload).await.unwrap();
    assert_eq!(done.status(), Status::Rejected, "judged by what is there");
    assert_eq!(open_multiparts(&world).await, 0);
}
