//! Uploads that the service receives in pieces: pieces of any size, several processes that write,
//! and failures at any time.

use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::{Stream, StreamExt as _, stream};
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::tus::{Append, Appended, TusError};
use upload_coordinator::app::{App, AppError};
use upload_coordinator::domain::upload::Declared;
use upload_coordinator::domain::{Status, UploadId};
use upload_coordinator::storage::ObjectStore as _;

use crate::support::world::World;

mod ending;
mod mixes;
mod takeover;

/// How long an upload waits for its next bytes.
const TTL: TimeDelta = TimeDelta::minutes(15);

/// The minimum size of a part in these tests.
const PART: usize = 4096;

type Body = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, AppError>> + Send>>;

async fn begin(world: &World, size: Option<usize>) -> UploadId {
    let declared = Declared {
        filename: Some("a.mp3".into()),
        size: size.map(|size| size as u64),
        ..Declared::default()
    };
    let new = NewUpload { declared, ..NewUpload::default() };
    world.app.create_tus(&world.owner, new, None).await.unwrap().upload.id
}

/// A body that arrives in small pieces.
fn whole(bytes: &[u8]) -> Body {
    let chunks: Vec<_> =
        bytes.chunks(1000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    Box::pin(stream::iter(chunks))
}

/// A body whose connection breaks after these bytes.
fn broken(bytes: &[u8]) -> Body {
    let end = stream::iter([Err(AppError::Body("the connection broke".into()))]);
    Box::pin(whole(bytes).chain(end))
}

/// A body that stops after these bytes, and whose connection stays open.
fn hanging(bytes: &[u8]) -> Body {
    Box::pin(whole(bytes).chain(stream::pending()))
}

fn at(offset: usize, size: Option<usize>) -> Append {
    let size = size.map(|size| size as u64);
    Append { offset: offset as u64, size, ..Append::default() }
}

async fn append(
    app: &App,
    world: &World,
    id: UploadId,
    request: Append,
    body: Body,
) -> Result<Appended, AppError> {
    app.append(&world.owner, id, request, body, TTL).await
}

/// Sends bytes in one request.
async fn send(
    world: &World,
    id: UploadId,
    offset: usize,
    bytes: &[u8],
) -> Result<Appended, AppError> {
    append(&world.app, world, id, at(offset, Some(bytes.len())), whole(bytes)).await
}

async fn resume(app: &App, world: &World, id: UploadId) -> Result<Appended, AppError> {
    app.resume_tus(&world.owner, id, TTL).await
}

fn to_usize(size: u64) -> usize {
    usize::try_from(size).unwrap()
}

/// The keys of the tails: objects with stored bytes that are too few for a part.
fn tails(world: &World) -> Vec<String> {
    world.store.keys().into_iter().filter(|key| key.contains("/.tails/")).collect()
}

async fn open_multiparts(world: &World) -> usize {
    world.store.list_multiparts("", None).await.unwrap().0.len()
}

/// Asserts that only the file remains of an upload.
async fn is_complete(world: &World, id: UploadId, file: &[u8]) {
    let upload = world.get(id).await;
    assert_eq!(upload.status(), Status::Uploaded);
    let meta = world.store.head(upload.key.as_str()).await.unwrap().unwrap();
    assert_eq!(meta.size, file.len() as u64);
    let stored = world.store.read(upload.key.as_str(), 0..meta.size, &meta.etag).await.unwrap();
    assert!(stored == file, "the file has other bytes");
    nothing_is_left(world, id).await;
}

async fn nothing_is_left(world: &World, id: UploadId) {
    assert_eq!(tails(world), Vec::<String>::new());
    assert_eq!(open_multiparts(world).await, 0);
    assert_eq!(world.app.db.multipart_aborts().count().await.unwrap(), 0);
    assert_eq!(world.app.db.tus().pieces(id).await.unwrap(), []);
}

#[track_caller]
fn refused(result: Result<Appended, AppError>) -> TusError {
    match result {
        Err(AppError::Tus(error)) => error,
        other => panic!("{other:?}"),
    }
}
