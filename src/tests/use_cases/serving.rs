//! Downloads are signed for verified bytes only.

use std::sync::Arc;

use bytes::Bytes;
use chrono::TimeDelta;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use upload_coordinator::app::AppError;
use upload_coordinator::app::create_upload::{Created, NewUpload};
use upload_coordinator::app::direct_upload::SentFile;
use upload_coordinator::domain::ids::SystemIds;
use upload_coordinator::domain::run::Mode;
use upload_coordinator::domain::upload::{Declared, State, Strategy};
use upload_coordinator::domain::{RejectReason, Status, Track, Upload};
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::signer::SignedRequest;

use crate::storage::servers::Subject;
use crate::support::mp3;
use crate::support::world::World;

/// A track with a verified file that was declared and sent in this way.
async fn filed(world: &World, declared: Declared, strategy: Strategy) -> (Track, Upload) {
    let track = world.track().await;
    let strategy = Some(strategy);
    let new = NewUpload {
        attach_to: Some(upload_coordinator::domain::Subject::of_track(track.id)),
        declared,
        strategy,
        ..NewUpload::default()
    };
    let upload = world.create(new).await;
    world.put(&upload, mp3(900, 1)).await;
    let upload = world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    assert_eq!(upload.status(), Status::Uploaded);
    (track, upload)
}

fn is_overwritten(upload: &Upload) -> bool {
    matches!(upload.state, State::Rejected { reason: RejectReason::Overwritten, .. })
}

/// A PUT over a separate connection, whose body is sent in pieces.
struct SlowPut(TcpStream);

impl SlowPut {
    async fn start(request: &SignedRequest, length: usize, first: &[u8]) -> Self {
        let url = url::Url::parse(&request.url).unwrap();
        let (host, port) = (url.host_str().unwrap(), url.port_or_known_default().unwrap());
        let mut stream = TcpStream::connect((host, port)).await.unwrap();
        let target = format!("{}?{}", url.path(), url.query().unwrap());
        let head = format!(
            "PUT {target} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(first).await.unwrap();
        Self(stream)
    }

    /// Sends the rest of the body, and returns the first line of the response.
    async fn end(mut self, remaining: &[u8]) -> String {
        self.0.write_all(remaining).await.unwrap();
        let mut response = Vec::new();
        self.0.read_to_end(&mut response).await.unwrap();
        let response = String::from_utf8_lossy(&response).into_owned();
        response.lines().next().unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn a_slow_put_that_ends_after_the_deadline_is_not_served() {
    let server = Subject::server().await;
    let on = server.with_own_bucket().await.unwrap();
    let world = World::build_on(Some(on.store.clone()), |_| {}, |_| Arc::new(SystemIds)).await;
    let track = world.track().await;
    let new = NewUpload {
        attach_to: Some(upload_coordinator::domain::Subject::of_track(track.id)),
        ..NewUpload::default()
    };
    let created = world.app.create_upload(&world.owner, new).await.unwrap();
    let Created { upload, request: Some(request) } = created else { panic!() };
    // The first half of a page arrives while the URL is valid.
    let page = format!("<html>{}</html>", " ".repeat(200_000));
    let (first, remaining) = page.as_bytes().split_at(100_000);
    let slow = SlowPut::start(&request, page.len(), first).await;
    let fast = on.http().put(&request.url).body(mp3(900, 1)).send().await.unwrap();
    assert_eq!(fast.status(), 200);
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    world.app.track_file(&world.owner, track.id).await.unwrap();

    world.pass_the_deadline();
    world.app.track_file(&world.owner, track.id).await.unwrap();
    let response = slow.end(remaining).await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    let file = world.app.track_file(&world.owner, track.id).await;
    assert!(matches!(file, Err(AppError::NotFound("file"))), "{file:?}");
    assert!(is_overwritten(&world.get(upload.id).await));
}

#[tokio::test]
async fn a_download_costs_a_head_only_while_a_put_can_replace_its_object() {
    let world = World::new().await;
    let typed = Declared { content_type: Some("audio/mpeg".into()), ..Declared::default() };
    let (bare, _) = filed(&world, Declared::default(), Strategy::Put).await;
    let (form, _) = filed(&world, typed.clone(), Strategy::Post).await;
    let (once, _) = filed(&world, typed, Strategy::Put).await;
    let sized = Declared { size: Some(900), ..Declared::default() };
    let (parts, _) = filed(&world, sized, Strategy::Multipart).await;
    let heads = async |track: &Track| {
        let before = world.store.calls(Operation::Head);
        world.app.track_file(&world.owner, track.id).await.unwrap();
        world.store.calls(Operation::Head) - before
    };
    for hours in [0, 20] {
        world.pass(TimeDelta::hours(hours));
        assert_eq!((heads(&bare).await, heads(&form).await), (1, 1), "{hours}");
        assert_eq!((heads(&once).await, heads(&parts).await), (0, 0), "{hours}");
    }
    // Longer than the lifetime of the URL and of a PUT together.
    world.pass(TimeDelta::hours(6));
    assert_eq!((heads(&bare).await, heads(&form).await), (0, 0));
}

#[tokio::test]
async fn the_longest_duration_of_a_put_is_configurable() {
    let world = World::with(|policy| policy.max_put_duration = TimeDelta::hours(3)).await;
    let (track, upload) = filed(&world, Declared::default(), Strategy::Put).await;
    world.pass(TimeDelta::minutes(239));
    world.put(&upload, mp3(901, 2)).await;
    assert!(world.app.track_file(&world.owner, track.id).await.is_err());
    assert!(is_overwritten(&world.get(upload.id).await));
    // After this time, no more bytes of an upload are expected.
    let (track, _) = filed(&world, Declared::default(), Strategy::Put).await;
    world.pass(TimeDelta::minutes(241));
    let before = world.store.calls(Operation::Head);
    world.app.track_file(&world.owner, track.id).await.unwrap();
    assert_eq!(world.store.calls(Operation::Head), before);
}

#[tokio::test]
async fn an_incremental_run_finds_what_a_slow_put_replaced_after_the_deadline() {
    let world = World::new().await;
    let (_, replaced) = filed(&world, Declared::default(), Strategy::Put).await;
    let (_, unchanged) = filed(&world, Declared::default(), Strategy::Put).await;
    let sized = Declared { size: Some(900), ..Declared::default() };
    let (_, parts) = filed(&world, sized, Strategy::Multipart).await;
    world.pass(TimeDelta::hours(20));
    world.put(&replaced, mp3(901, 2)).await;
    let before = world.store.calls(Operation::Head);
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!(run.counters.rejected, 1, "{:?}", run.counters);
    // One request for each upload, and one more before the rejection is recorded.
    assert_eq!(run.counters.head_requests, 3, "none for the upload in parts");
    assert!(world.store.calls(Operation::Head) > before);
    assert!(is_overwritten(&world.get(replaced.id).await));
    assert_eq!(world.get(unchanged.id).await, unchanged);
    assert_eq!(world.get(parts.id).await, parts);
    world.pass(TimeDelta::hours(6));
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!(run.counters.head_requests, 0, "nothing can be replaced any more");
}

/// A world whose bucket has versioning, and a track with a verified file in it.
async fn versioned() -> (World, Track, Upload) {
    let world = World::new().await;
    world.store.keep_versions();
    let (track, upload) = filed(&world, Declared::default(), Strategy::Put).await;
    (world, track, upload)
}

fn version_of(upload: &Upload) -> &str {
    upload.state.facts().unwrap().version_id.as_deref().unwrap()
}

#[tokio::test]
async fn a_version_that_is_gone_is_replaced_by_the_same_bytes_in_a_newer_version() {
    let (world, track, upload) = versioned().await;
    let (key, old) = (upload.key.as_str(), version_of(&upload));
    // The object is copied, for example to another storage class, and then the lifecycle removes
    // the old version. The listing shows the same ETag.
    world.put(&upload, mp3(900, 1)).await;
    world.store.remove_version(key, old);
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!(run.counters.transitions(), 0, "{:?}", run.counters);
    let signed = world.app.track_file(&world.owner, track.id).await.unwrap();
    let now = world.get(upload.id).await;
    assert_eq!(
        (now.status(), version_of(&now)),
        (Status::Uploaded, &*world.store.versions(key)[0])
    );
    let named = format!("versionId={}", version_of(&now));
    assert!(signed.url.contains(&named), "{signed:?}: {named}");
    // It is recorded once: the next download changes nothing.
    world.app.track_file(&world.owner, track.id).await.unwrap();
    assert_eq!(world.get(upload.id).await, now);
}

#[tokio::test]
async fn a_confirmation_and_an_incremental_run_record_a_newer_version() {
    let (world, _, upload) = versioned().await;
    world.put(&upload, mp3(900, 1)).await;
    let newest = |world: &World| world.store.versions(upload.key.as_str()).last().cloned();
    let confirmed = world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    assert_eq!(Some(version_of(&confirmed).to_owned()), newest(&world));
    world.put(&upload, mp3(900, 1)).await;
    world.reconcile(Mode::Incremental).await;
    assert_eq!(Some(version_of(&world.get(upload.id).await).to_owned()), newest(&world));
}

#[tokio::test]
async fn the_verified_version_is_served_until_it_is_gone_and_never_other_bytes() {
    let (world, track, upload) = versioned().await;
    let verified = version_of(&upload).to_owned();
    world.put(&upload, mp3(901, 2)).await;
    let signed = world.app.track_file(&world.owner, track.id).await.unwrap();
    assert!(signed.url.contains(&format!("versionId={verified}")), "{signed:?}");
    assert_eq!(world.get(upload.id).await, upload);
    world.store.remove_version(upload.key.as_str(), &verified);
    let file = world.app.track_file(&world.owner, track.id).await;
    assert!(matches!(file, Err(AppError::NotFound("file"))), "{file:?}");
    assert!(is_overwritten(&world.get(upload.id).await));
}

#[tokio::test]
async fn a_due_deletion_removes_every_version_and_delete_marker() {
    let (world, _, upload) = versioned().await;
    let key = upload.key.as_str();
    world.put(&upload, mp3(900, 3)).await;
    world.store.hide(key);
    world.put(&upload, mp3(900, 1)).await;
    assert_eq!(world.store.versions(key).len(), 4);
    world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!(run.counters.deleted, 1);
    assert_eq!(world.store.versions(key), Vec::<String>::new());
}

#[tokio::test]
async fn the_service_accepts_the_file_of_an_expired_upload() {
    let world = World::new().await;
    let upload = world.upload().await;
    world.pass_the_deadline();
    world.reconcile(Mode::Incremental).await;
    assert_eq!(world.get(upload.id).await.status(), Status::Expired);
    let body = || futures_util::stream::iter([Ok(Bytes::from(mp3(900, 1)))]);
    let sent = SentFile::default;
    let owner = &world.owner;
    let stored = world.app.upload_content(owner, upload.id, sent(), body()).await.unwrap();
    let verified = stored.state.verified().unwrap();
    assert_eq!((stored.status(), verified.late), (Status::Uploaded, false));
    world.app.upload_file(owner, upload.id).await.unwrap();
    let again = world.app.upload_content(owner, upload.id, sent(), body()).await;
    assert!(matches!(again, Err(AppError::State(_))), "{again:?}");
}
