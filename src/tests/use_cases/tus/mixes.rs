//! Any mix of pieces becomes the complete file.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use upload_coordinator::app::tus::{Append, TusError};
use upload_coordinator::app::{App, AppError};
use upload_coordinator::domain::Status;
use upload_coordinator::domain::checksum::{Algorithm, Checksum};
use upload_coordinator::domain::tus::PieceChecksum;
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::{ObjectStore as _, StoreError};

use super::{
    PART, append, at, begin, broken, is_complete, nothing_is_left, open_multiparts, refused,
    resume, send, tails, to_usize, whole,
};
use crate::support::mp3;
use crate::support::world::World;

/// What a request does.
#[derive(Debug, Clone, Copy)]
enum How {
    /// Its length is declared.
    Sized,
    /// Its length is not declared.
    Chunked,
    /// Its length is declared, and the connection breaks after half of the bytes.
    Broken,
    /// It has the right checksum.
    Checked,
    /// It has the checksum of other bytes.
    Spoiled,
    /// It starts at a wrong offset.
    Elsewhere,
    /// It only asks for the offset.
    Head,
    /// The store fails the next call.
    Failing(Operation),
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        6 => Just(How::Sized),
        3 => Just(How::Chunked),
        2 => Just(How::Broken),
        1 => Just(How::Checked),
        1 => Just(How::Spoiled),
        1 => Just(How::Elsewhere),
        1 => Just(How::Head),
        1 => prop_oneof![
            Just(Operation::Put),
            Just(Operation::UploadPart),
            Just(Operation::Read),
            Just(Operation::CompleteMultipart),
        ]
        .prop_map(How::Failing),
    ]
}

/// Sizes around the limits at which the behaviour changes.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![1..40_usize, 1..PART, PART - 2..PART + 3, 2 * PART - 2..2 * PART + 3, 1..5 * PART,]
}

fn checksum(bytes: &[u8]) -> Option<PieceChecksum> {
    PieceChecksum::parse(&format!("sha256 {}", Checksum::of(Algorithm::Sha256, bytes).value()))
}

async fn mix(
    world: &World,
    apps: &[Arc<App>],
    file: &[u8],
    deferred: bool,
    requests: &[(usize, How, usize)],
) -> Result<(), TestCaseError> {
    let id = begin(world, (!deferred).then_some(file.len())).await;
    let mut stored = 0;
    // The bytes that no step sends are sent at the end.
    let remaining = [(file.len(), How::Sized, 0), (file.len(), How::Sized, 1)];
    for (size, how, app) in requests.iter().copied().chain(remaining) {
        let app = &apps[app % apps.len()];
        let bytes = &file[stored..file.len().min(stored + size)];
        // The client declares the length with its last bytes.
        let ends = deferred && stored + bytes.len() == file.len();
        let length = ends.then_some(file.len() as u64);
        let sized = Append { length, ..at(stored, Some(bytes.len())) };
        let half = &bytes[..bytes.len() / 2];
        let result = match how {
            How::Sized => append(app, world, id, sized, whole(bytes)).await,
            How::Chunked => {
                append(app, world, id, Append { size: None, ..sized }, whole(bytes)).await
            }
            How::Broken => append(app, world, id, sized, broken(half)).await,
            How::Checked => {
                let request = Append { checksum: checksum(bytes), ..sized };
                append(app, world, id, request, whole(bytes)).await
            }
            How::Spoiled => {
                let request = Append { checksum: checksum(b"others"), ..sized };
                append(app, world, id, request, whole(bytes)).await
            }
            How::Elsewhere => append(app, world, id, at(stored + 1, None), whole(b"others")).await,
            How::Head => resume(app, world, id).await,
            How::Failing(operation) => {
                let down = || StoreError::Unavailable("down".into());
                world.store.fail_next(operation, 1, down);
                let result = append(app, world, id, sized, whole(bytes)).await;
                world.store.heal();
                result
            }
        };
        let complete = matches!(&result, Ok(done) if done.upload.status() == Status::Uploaded);
        let expected = match (how, &result) {
            (How::Sized | How::Chunked | How::Checked | How::Failing(_), Ok(_)) => {
                Some(stored + bytes.len())
            }
            (How::Failing(_), Err(AppError::Store(_))) => None,
            (How::Broken, Err(AppError::Body(_))) => Some(stored + half.len()),
            (How::Spoiled, Err(AppError::Tus(TusError::Checksum)))
            | (How::Elsewhere, Err(AppError::Tus(TusError::Offset { .. })))
            | (How::Head, Ok(_)) => Some(stored),
            // The file is complete.
            (_, Err(AppError::Tus(TusError::Offset { stored: all }))) => Some(to_usize(*all)),
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        if let Some(expected) = expected {
            let found = world.app.db.tus().find(id).await.unwrap().unwrap();
            if world.get(id).await.status() == Status::Pending {
                prop_assert_eq!(to_usize(found.stored), expected, "{:?}", how);
            }
        }
        if complete {
            is_complete(world, id, file).await;
            return Ok(());
        }
        // After a failure, a client asks for the offset too.
        let now = resume(app, world, id).await.unwrap();
        let before = stored;
        stored = to_usize(now.stored);
        prop_assert!(stored >= before, "an acknowledged byte is lost");
        if now.upload.status() == Status::Uploaded {
            is_complete(world, id, file).await;
            return Ok(());
        }
    }
    Err(TestCaseError::fail("the upload does not end"))
}

#[test]
fn any_mix_of_pieces_becomes_the_file() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (world, apps) = runtime.block_on(async {
        let world = World::new().await;
        let apps = vec![world.app.clone(), Arc::new(world.replica().await)];
        (world, apps)
    });
    let requests = prop::collection::vec((size(), how(), 0..2_usize), 0..12);
    let inputs = (size(), any::<bool>(), requests);
    let config = Config { cases: 96, ..Config::with_source_file(file!()) };
    let outcome = TestRunner::new(config).run(&inputs, |(size, deferred, requests)| {
        // The file is long enough for its type to be detected.
        let file = mp3(size + 500, 7);
        runtime.block_on(mix(&world, &apps, &file, deferred, &requests))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[tokio::test]
async fn single_bytes_become_the_file_and_leave_few_objects() {
    let world = World::new().await;
    let file = mp3(300, 1);
    let id = begin(&world, Some(file.len())).await;
    for (offset, byte) in file.iter().enumerate() {
        let done = send(&world, id, offset, &[*byte]).await.unwrap();
        assert_eq!(done.stored, offset as u64 + 1);
        assert!(tails(&world).len() <= 9, "{:?}", tails(&world));
    }
    is_complete(&world, id, &file).await;
}

#[tokio::test]
async fn large_pieces_leave_no_tails_and_a_small_file_is_one_put() {
    let world = World::new().await;
    let file = mp3(11 * PART, 1);
    let id = begin(&world, Some(file.len())).await;
    let puts = world.store.calls(Operation::Put);
    for offset in (0..file.len()).step_by(PART + 100) {
        let piece = &file[offset..file.len().min(offset + PART + 100)];
        send(&world, id, offset, piece).await.unwrap();
    }
    is_complete(&world, id, &file).await;
    assert_eq!(world.store.calls(Operation::Put), puts);
    let file = mp3(2 * PART, 1);
    let id = begin(&world, Some(file.len())).await;
    let opened = world.store.calls(Operation::CreateMultipart);
    send(&world, id, 0, &file).await.unwrap();
    is_complete(&world, id, &file).await;
    assert_eq!(world.store.calls(Operation::CreateMultipart), opened);
}

#[tokio::test]
async fn a_checksum_stores_all_bytes_or_none() {
    let world = World::new().await;
    let file = mp3(7 * PART, 1);
    let id = begin(&world, Some(file.len())).await;
    let wrong = Append { checksum: checksum(b"others"), ..at(0, Some(5 * PART)) };
    let result = append(&world.app, &world, id, wrong, whole(&file[..5 * PART])).await;
    assert_eq!(refused(result), TusError::Checksum);
    let cut = Append { checksum: checksum(&file), ..at(0, Some(file.len())) };
    let result = append(&world.app, &world, id, cut, broken(&file[..5 * PART])).await;
    assert!(matches!(result, Err(AppError::Body(_))), "{result:?}");
    assert_eq!(resume(&world.app, &world, id).await.unwrap().stored, 0);
    let right = Append { checksum: checksum(&file), ..at(0, Some(file.len())) };
    append(&world.app, &world, id, right, whole(&file)).await.unwrap();
    is_complete(&world, id, &file).await;
}

#[tokio::test]
async fn a_body_that_is_longer_than_the_file_is_refused() {
    let world = World::new().await;
    let id = begin(&world, Some(1000)).await;
    let long = mp3(1001, 1);
    assert_eq!(refused(send(&world, id, 0, &long).await), TusError::TooLong { limit: 1000 });
    let result = append(&world.app, &world, id, at(0, None), whole(&long)).await;
    assert_eq!(refused(result), TusError::TooLong { limit: 1000 });
    let now = resume(&world.app, &world, id).await.unwrap();
    assert_eq!(now.stored, 1000, "the bytes before the limit are stored");
}

#[tokio::test]
async fn a_length_is_declared_once_and_within_the_limits() {
    let world = World::with(|policy| policy.max_size = 5000).await;
    let id = begin(&world, None).await;
    let file = mp3(300, 1);
    send(&world, id, 0, &file[..200]).await.unwrap();
    let declare = async |length: u64| {
        let request = Append { length: Some(length), ..at(200, Some(0)) };
        append(&world.app, &world, id, request, whole(b"")).await
    };
    for wrong in [0, 199] {
        let result = declare(wrong).await;
        assert!(matches!(result, Err(AppError::Invalid(_))), "{wrong}: {result:?}");
    }
    assert_eq!(refused(declare(5001).await), TusError::TooLong { limit: 5000 });
    assert_eq!(declare(300).await.unwrap().length, Some(300));
    assert!(matches!(declare(301).await, Err(AppError::Invalid(_))));
    send(&world, id, 200, &file[200..]).await.unwrap();
    is_complete(&world, id, &file).await;
    // The last bytes arrive before the length is declared.
    let id = begin(&world, None).await;
    send(&world, id, 0, &file).await.unwrap();
    let request = Append { length: Some(300), ..at(300, Some(0)) };
    append(&world.app, &world, id, request, whole(b"")).await.unwrap();
    is_complete(&world, id, &file).await;
}

#[tokio::test]
async fn a_part_that_does_not_reach_the_store_is_not_acknowledged() {
    let world = World::new().await;
    let file = mp3(9 * PART, 1);
    let id = begin(&world, Some(file.len())).await;
    for operation in [Operation::UploadPart, Operation::Put] {
        world.store.fail_next(operation, 1, || StoreError::Unavailable("down".into()));
        let size = if operation == Operation::Put { 10 } else { 3 * PART };
        assert!(send(&world, id, 0, &file[..size]).await.is_err());
        assert_eq!(resume(&world.app, &world, id).await.unwrap().stored, 0);
    }
    // The part reaches the store, but the response is lost. The next part has another number.
    world.store.lose_next(Operation::UploadPart, 1);
    assert!(send(&world, id, 0, &mp3(2 * PART, 9)).await.is_err());
    send(&world, id, 0, &file).await.unwrap();
    is_complete(&world, id, &file).await;
}

#[tokio::test]
async fn parts_that_the_store_lost_end_the_upload() {
    let world = World::new().await;
    let id = begin(&world, Some(9 * PART)).await;
    send(&world, id, 0, &mp3(3 * PART + 10, 1)).await.unwrap();
    // A lifecycle rule of the bucket aborts the multipart upload.
    let upload = world.get(id).await;
    let opened = upload.multipart_id.unwrap();
    world.store.abort_multipart(upload.key.as_str(), &opened).await.unwrap();
    let result = send(&world, id, 3 * PART + 10, &mp3(2 * PART, 1)).await;
    assert_eq!(refused(result), TusError::Ended(Status::Cancelled));
    nothing_is_left(&world, id).await;
    assert_eq!(open_multiparts(&world).await, 0);
}

#[tokio::test]
async fn a_slow_store_does_not_make_the_service_read_ahead_without_a_limit() {
    let world = World::new().await;
    let file = mp3(20 * PART, 1);
    let id = begin(&world, Some(file.len())).await;
    let gate = world.store.hold(Operation::UploadPart);
    let read = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = read.clone();
    let body = whole(&file).inspect(move |chunk: &Result<Bytes, AppError>| {
        let len = chunk.as_ref().map_or(0, Bytes::len);
        counted.fetch_add(len, std::sync::atomic::Ordering::Relaxed);
    });
    let request = at(0, Some(file.len()));
    let appended = append(&world.app, &world, id, request, Box::pin(body));
    let watched = async {
        gate.next_call().await;
        // This is enough time to read the whole body.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let read = read.load(std::sync::atomic::Ordering::Relaxed);
        assert!(read <= 4 * PART + 2000, "{read} bytes: a part that is being sent, and one more");
        gate.open();
    };
    let (appended, ()) = tokio::join!(appended, watched);
    appended.unwrap();
    is_complete(&world, id, &file).await;
}
