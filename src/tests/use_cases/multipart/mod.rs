//! Multipart uploads: planned, sent, resumed, completed and abandoned.

use std::sync::Arc;

use upload_coordinator::app::AppError;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::checksum::{Algorithm, Checksum};
use upload_coordinator::domain::limits::MIN_PART_SIZE;
use upload_coordinator::domain::upload::{Declared, Strategy};
use upload_coordinator::domain::{Status, Upload};
use upload_coordinator::storage::capabilities::Capabilities;
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::{ObjectStore as _, PartIntegrity};

use crate::support::mp3;
use crate::support::world::World;

mod completing;
mod lapsing;

const MIB: usize = 1 << 20;

/// Two full parts and a short one.
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
        max_size: None,
    };
    NewUpload { declared, strategy: Some(Strategy::Multipart), ..NewUpload::default() }
}

/// Sends these parts of a file with presigned requests, as a client does.
async fn send(world: &World, upload: &Upload, file: &[u8], numbers: &[u16]) {
    let plan = upload.parts().unwrap();
    let requested: Vec<i64> = numbers.iter().map(|n| i64::from(*n)).collect();
    let signed = world.app.sign_parts(&world.owner, upload.id, &requested, None).await.unwrap();
    let row = world.get(upload.id).await;
    let id = row.multipart_id.as_deref().unwrap();
    for part in signed {
        assert!(part.request.url.contains(&format!("partNumber={}&", part.number)));
        assert!(part.request.url.contains(&format!("uploadId={id}")));
        let begin = usize::from(part.number - 1) * usize::try_from(plan.part_size()).unwrap();
        let len = usize::try_from(plan.len_of(part.number).unwrap()).unwrap();
        let body = file[begin..begin + len].to_vec().into();
        world
            .store
            .upload_part(row.key.as_str(), id, part.number, body, PartIntegrity::Signature)
            .await
            .unwrap();
    }
}

async fn complete(world: &World, upload: &Upload) -> Result<Upload, AppError> {
    world.app.complete_upload(&world.owner, upload.id, None).await
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
    assert_eq!(complete(&world, &upload).await.unwrap(), done, "a repetition changes nothing");
    assert!(world.app.held_parts(&world.owner, upload.id).await.unwrap().is_empty());
    assert_eq!(world.get(upload.id).await, done);
}

#[tokio::test]
async fn auto_is_multipart_from_the_threshold_on_and_a_put_below_it() {
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

/// The store has the limits of Azure, and the policy has the largest values that can be configured.
#[tokio::test]
async fn a_store_with_lower_limits_gets_parts_that_it_accepts() {
    let (put, part) = (5000 << 20, 4000 << 20);
    let mut world = World::with(|policy| {
        (policy.max_size, policy.multipart_threshold, policy.part_size) =
            (5 << 40, 5 << 30, 5 << 30);
    })
    .await;
    let mut app = world.replica().await;
    let store = app.stores.get_mut("default").unwrap();
    let capabilities = (*store.capabilities).clone();
    let capabilities = Capabilities { max_put_size: put, max_part_size: part, ..capabilities };
    store.capabilities = capabilities.into();
    app.check_buckets().await.unwrap();
    world.app = Arc::new(app);
    let new = |size, strategy| NewUpload {
        declared: Declared { size: Some(size), ..Declared::default() },
        strategy,
        ..NewUpload::default()
    };
    assert_eq!(world.create(new(put, None)).await.strategy, Strategy::Put);
    for size in [put + 1, 5 << 30, 5 << 40] {
        let upload = world.create(new(size, None)).await;
        assert_eq!(upload.strategy, Strategy::Multipart, "{size}");
        assert_eq!(upload.part_size, Some(part), "{size}");
    }
    let refused =
        world.app.create_upload(&world.owner, new(put + 1, Some(Strategy::Put))).await.unwrap_err();
    let AppError::Invalid(errors) = refused else { panic!("{refused:?}") };
    assert_eq!(errors.0["size"], ["A single PUT can have at most 5242880000 bytes"]);
}

#[tokio::test]
async fn sizes_and_checksums_that_parts_do_not_support_are_refused_by_field() {
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
    assert_eq!(
        world.store.calls(Operation::CreateMultipart),
        8,
        "it is refused before a multipart upload is created"
    );
}
