//! Tracks: their uploads, their file, direct uploads and lists.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::iter;
use upload_coordinator::app::AppError;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::direct_upload::{DirectUpload, SentFile};
use upload_coordinator::db::tracks::{TrackFields, TrackFilter, TrackOrder};
use upload_coordinator::domain::checksum::{Algorithm, Checksum};
use upload_coordinator::domain::{Status, Subject, Track, Upload};
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::{ObjectStore as _, StoreError};

use crate::support::world::World;
use crate::support::{PNG, mp3};

async fn upload_for(world: &World, track: &Track) -> Upload {
    world
        .create(NewUpload { attach_to: Some(Subject::of_track(track.id)), ..NewUpload::default() })
        .await
}

async fn confirm(world: &World, upload: &Upload) -> Upload {
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap()
}

async fn reload(world: &World, track: &Track) -> Track {
    world.app.track(&world.owner, track.id).await.unwrap().0
}

#[tokio::test]
async fn a_track_serves_its_newest_verified_upload_in_any_order_of_arrival() {
    let world = World::new().await;
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let track = world.track().await;
        let mut uploads = Vec::new();
        for seed in 0..3 {
            let upload = upload_for(&world, &track).await;
            world.put(&upload, mp3(900, seed)).await;
            uploads.push(upload);
        }
        for i in order {
            confirm(&world, &uploads[i]).await;
        }
        let track = reload(&world, &track).await;
        assert_eq!(track.current_upload, Some(uploads[2].id), "{order:?}");
        assert_eq!(track.latest_upload, Some(uploads[2].id));
        assert_eq!(track.status, Some(Status::Uploaded));
        for old in &uploads[..2] {
            let old = world.get(old.id).await;
            assert_eq!(old.status(), Status::Removed);
            assert!(old.deletion.after.is_some());
        }
    }
}

#[tokio::test]
async fn a_replacement_that_is_refused_leaves_the_old_file_in_place() {
    let world = World::new().await;
    let track = world.track().await;
    let first = upload_for(&world, &track).await;
    world.put(&first, mp3(900, 1)).await;
    confirm(&world, &first).await;
    let second = upload_for(&world, &track).await;
    assert_eq!(reload(&world, &track).await.status, Some(Status::Pending));
    world.put(&second, PNG).await;
    confirm(&world, &second).await;
    let track = reload(&world, &track).await;
    assert_eq!(track.status, Some(Status::Rejected));
    assert_eq!(track.current_upload, Some(first.id));
    assert!(world.app.track_file(&world.owner, track.id).await.is_ok());
}

#[tokio::test]
async fn uploads_of_one_track_confirmed_at_once_leave_one_attached() {
    let world = World::new().await;
    let track = world.track().await;
    let mut uploads = Vec::new();
    for seed in 0..8 {
        let upload = upload_for(&world, &track).await;
        world.put(&upload, mp3(900, seed)).await;
        uploads.push(upload);
    }
    futures_util::future::join_all(uploads.iter().map(|upload| confirm(&world, upload))).await;
    let track = reload(&world, &track).await;
    let subject = Subject::of_track(track.id);
    let attachment = world.app.db.attachments().find(&world.owner, &subject).await.unwrap();
    assert_eq!(attachment.unwrap().current.map(|current| current.sequence), Some(8));
    let mut uploaded = 0;
    for upload in &uploads {
        uploaded += usize::from(world.get(upload.id).await.status() == Status::Uploaded);
    }
    assert_eq!(uploaded, 1);
}

#[tokio::test]
async fn deleting_a_track_ends_its_uploads_and_keeps_their_rows() {
    let world = World::new().await;
    let track = world.track().await;
    let uploaded = upload_for(&world, &track).await;
    world.put(&uploaded, mp3(900, 1)).await;
    confirm(&world, &uploaded).await;
    let pending = upload_for(&world, &track).await;
    world.app.delete_track(&world.owner, track.id).await.unwrap();
    let gone = world.app.track(&world.owner, track.id).await;
    assert!(matches!(gone, Err(AppError::NotFound("track"))));
    assert_eq!(world.get(uploaded.id).await.status(), Status::Removed);
    assert_eq!(world.get(pending.id).await.status(), Status::Cancelled);
    for upload in [uploaded, pending] {
        assert!(world.get(upload.id).await.deletion.is_due(world.app.now()));
    }
}

#[tokio::test]
async fn a_file_can_be_downloaded_only_while_its_bytes_are_the_verified_ones() {
    let world = World::new().await;
    let track = world.track().await;
    let file = || world.app.track_file(&world.owner, track.id);
    assert!(matches!(file().await, Err(AppError::NotFound("file"))));
    let upload = upload_for(&world, &track).await;
    assert!(matches!(file().await, Err(AppError::FilePending)));
    world.put(&upload, mp3(900, 1)).await;
    confirm(&world, &upload).await;
    assert!(file().await.unwrap().url.contains(upload.key.as_str()));
    // The URL is still valid and not write-once: its holder stores other bytes.
    world.put(&upload, mp3(901, 2)).await;
    assert!(matches!(file().await, Err(AppError::NotFound("file"))));
    assert_eq!(world.get(upload.id).await.status(), Status::Rejected);
    assert_eq!(reload(&world, &track).await.current_upload, None);
}

fn body(chunks: Vec<Vec<u8>>) -> impl futures_util::Stream<Item = Result<Bytes, AppError>> + Unpin {
    iter(chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk))))
}

fn direct(track: &Track) -> DirectUpload {
    DirectUpload {
        track: track.id,
        policy: None,
        filename: "song.mp3".into(),
        sent: SentFile::default(),
    }
}

fn with_length(track: &Track, length: u64) -> DirectUpload {
    let sent = SentFile { length: Some(length), ..SentFile::default() };
    DirectUpload { sent, ..direct(track) }
}

fn with_digests(track: &Track, digests: Vec<Checksum>) -> DirectUpload {
    let sent = SentFile { digests, ..SentFile::default() };
    DirectUpload { sent, ..direct(track) }
}

#[tokio::test]
async fn a_direct_upload_stores_exactly_its_bytes_in_one_put_or_in_parts() {
    let world = World::new().await;
    // Parts have 4,096 bytes here.
    for size in [1000, 4095, 4096, 4097, 8192, 50_000] {
        let track = world.track().await;
        let file = mp3(size, 3);
        let chunks = file.chunks(777).map(<[u8]>::to_vec).collect();
        let (track, upload) =
            world.app.direct_upload(&world.owner, direct(&track), body(chunks)).await.unwrap();
        let upload = upload.unwrap();
        assert_eq!(track.status, Some(Status::Uploaded), "{size}");
        let facts = upload.state.facts().unwrap();
        assert_eq!(facts.size, size as u64);
        // A file that is stored by one PUT is recorded with SHA-256, which is stronger. A file in
        // parts is recorded with CRC-64/NVME, because the store has this checksum for it.
        let algorithm = if size <= 4096 { Algorithm::Sha256 } else { Algorithm::Crc64nvme };
        assert_eq!(facts.checksum, Some(Checksum::of(algorithm, &file)), "{size}");
        let stored = world.store.read(upload.key.as_str(), 0..size as u64 + 9, &facts.etag).await;
        assert_eq!(stored.unwrap(), file, "{size}");
    }
    assert!(world.store.list_multiparts("", None).await.unwrap().0.is_empty());
}

#[tokio::test]
async fn the_checksum_that_a_file_is_sent_with_is_recorded() {
    let world = World::new().await;
    for size in [1000, 9000] {
        let track = world.track().await;
        let sent = Checksum::of(Algorithm::Sha256, &mp3(size, 3));
        let request = with_digests(&track, vec![sent.clone()]);
        let stored = world.app.direct_upload(&world.owner, request, body(vec![mp3(size, 3)])).await;
        let upload = stored.unwrap().1.unwrap();
        assert_eq!(upload.state.facts().unwrap().checksum, Some(sent), "{size}");
    }
}

#[tokio::test]
async fn a_direct_upload_that_is_refused_or_interrupted_leaves_no_object() {
    let world = World::with(|policy| policy.max_size = 20_000).await;
    let track = world.track().await;
    let broken = iter([Ok(Bytes::from(mp3(9000, 1))), Err(AppError::Body("broke off".into()))]);
    let refused = world.app.direct_upload(&world.owner, direct(&track), broken).await;
    assert!(matches!(refused, Err(AppError::Body(_))));
    let digests = vec![Checksum::of(Algorithm::Sha256, b"another file")];
    let cases = [
        (direct(&track), vec![PNG.to_vec()]),
        (direct(&track), vec![]),
        (direct(&track), vec![mp3(20_001, 1)]),
        (DirectUpload { filename: "song.exe".into(), ..direct(&track) }, vec![mp3(900, 1)]),
        (with_length(&track, 20_001), vec![mp3(900, 1)]),
        (with_length(&track, 9001), vec![mp3(9000, 1)]),
        (with_digests(&track, digests.clone()), vec![mp3(900, 1)]),
        (with_digests(&track, digests), vec![mp3(9000, 1)]),
    ];
    for (request, chunks) in cases {
        let refused = world.app.direct_upload(&world.owner, request.clone(), body(chunks)).await;
        assert!(matches!(refused, Err(AppError::Invalid(_))), "{request:?}: {refused:?}");
    }
    assert_eq!(world.store.keys(), ["tracks/.instance"], "only the marker is left");
    assert!(world.store.list_multiparts("", None).await.unwrap().0.is_empty());
    let subject = Subject::of_track(track.id);
    let open = world.app.db.uploads().list_open_of(&world.owner, &subject, 10).await.unwrap();
    assert_eq!(open, vec![], "no row stays pending");
}

#[tokio::test]
async fn a_store_that_fails_during_a_direct_upload_keeps_no_parts() {
    let world = World::new().await;
    let track = world.track().await;
    let down = || StoreError::Unavailable("down".into());
    world.store.fail_next(Operation::UploadPart, 1, down);
    let failed =
        world.app.direct_upload(&world.owner, direct(&track), body(vec![mp3(9000, 1)])).await;
    assert!(matches!(failed, Err(AppError::Store(StoreError::Unavailable(_)))));
    assert!(world.store.list_multiparts("", None).await.unwrap().0.is_empty());
    assert_eq!(reload(&world, &track).await.status, Some(Status::Cancelled));
}

#[tokio::test]
async fn a_direct_upload_sends_several_parts_at_once_only_with_a_permit() {
    const SPARE: usize = 4;
    let world = Arc::new(World::new().await);
    let gate = world.store.hold(Operation::UploadPart);
    let (read, mut reads) = tokio::sync::mpsc::unbounded_channel();
    let mut uploads = tokio::task::JoinSet::new();
    // Parts have 4,096 bytes, like the chunks. The chunk after a part is read together with it.
    for (n, on_the_way) in [(0, 1 + SPARE), (1, 1)] {
        let (world, read, track) = (Arc::clone(&world), read.clone(), world.track().await);
        uploads.spawn(async move {
            let file = mp3(12 * 4096, n);
            let chunks = iter(file.chunks(4096)).map(|chunk| {
                read.send(n).unwrap();
                Ok(Bytes::copy_from_slice(chunk))
            });
            let sent = world.app.direct_upload(&world.owner, direct(&track), chunks).await;
            let upload = sent.unwrap().1.unwrap();
            let etag = &upload.state.facts().unwrap().etag;
            let stored = world.store.read(upload.key.as_str(), 0..50_000, etag).await;
            assert_eq!(stored.unwrap(), file);
        });
        for _ in 0..on_the_way {
            gate.next_call().await;
        }
        for _ in 0..=on_the_way {
            assert_eq!(reads.recv().await, Some(n));
        }
        assert!(reads.try_recv().is_err(), "it waits until a part has arrived");
    }
    gate.open();
    uploads.join_all().await;
    let mut remaining = [12 - 2 - SPARE, 12 - 2];
    while let Ok(n) = reads.try_recv() {
        remaining[usize::from(n)] -= 1;
    }
    assert_eq!(remaining, [0, 0]);
}

#[tokio::test]
async fn a_direct_upload_whose_part_fails_ends_once_the_others_have_arrived() {
    let world = World::new().await;
    let track = world.track().await;
    let gate = world.store.hold(Operation::UploadPart);
    let down = || StoreError::Unavailable("down".into());
    let sent = world.app.direct_upload(&world.owner, direct(&track), body(vec![mp3(20_000, 1)]));
    let mut sent = std::pin::pin!(sent);
    for _ in 0..3 {
        tokio::select! {
            _ = &mut sent => panic!("the store holds its parts back"),
            () = gate.next_call() => {}
        }
    }
    world.store.fail_next(Operation::UploadPart, 1, down);
    gate.let_through(1);
    for _ in 0..1000 {
        assert!(futures_util::poll!(&mut sent).is_pending(), "its other parts are being sent");
        tokio::task::yield_now().await;
    }
    assert_eq!(world.store.calls(Operation::AbortMultipart), 0);
    gate.open();
    assert!(matches!(sent.await, Err(AppError::Store(StoreError::Unavailable(_)))));
    assert!(world.store.list_multiparts("", None).await.unwrap().0.is_empty());
    assert_eq!(reload(&world, &track).await.status, Some(Status::Cancelled));
}

#[tokio::test]
async fn lists_page_through_everything_once_in_every_order() {
    let world = World::new().await;
    let dates = [None, Some("2020-01-02"), Some("2019-12-31"), None, Some("2020-01-02")];
    for (i, date) in dates.iter().cycle().take(23).enumerate() {
        let fields = TrackFields {
            title: format!("{} Title", ["b", "A", "ä", "c"][i % 4]),
            artist_name: "Artist".into(),
            release_date: date.map(|date| date.parse().unwrap()),
        };
        world.app.create_track(&world.owner, fields).await.unwrap();
    }
    for order in [TrackOrder::CreatedAt, TrackOrder::Title, TrackOrder::ReleaseDate] {
        for descending in [false, true] {
            let mut filter = TrackFilter { order, descending, limit: 5, ..TrackFilter::default() };
            let mut seen = Vec::new();
            loop {
                let page = world.app.list_tracks(&world.owner, &filter).await.unwrap();
                seen.extend(page.items.into_iter().map(|(track, _)| track));
                let Some(next) = page.next else { break };
                filter.cursor = Some(next);
            }
            let ids: BTreeSet<_> = seen.iter().map(|track| track.id).collect();
            assert_eq!((seen.len(), ids.len()), (23, 23), "{order:?} {descending}");
            let keys: Vec<_> = seen
                .iter()
                .map(|track| match order {
                    TrackOrder::CreatedAt => track.created_at.to_string(),
                    TrackOrder::Title => track.title.to_lowercase(),
                    TrackOrder::ReleaseDate => {
                        track.release_date.map_or("9999".into(), |date| date.to_string())
                    }
                })
                .collect();
            let mut sorted = keys.clone();
            sorted.sort();
            if descending {
                sorted.reverse();
            }
            assert_eq!(keys, sorted, "{order:?} {descending}");
        }
    }
    let search = TrackFilter { search: Some("Ä t".into()), limit: 50, ..TrackFilter::default() };
    let found = world.app.list_tracks(&world.owner, &search).await.unwrap();
    assert_eq!(found.items.len(), 6);
}
