//! Encryption, storage class, caching and tags: every way to upload sends them.

use bytes::Bytes;
use upload_coordinator::app::AppError;
use upload_coordinator::app::create_upload::{DividedBy, NewUpload};
use upload_coordinator::app::direct_upload::{DirectUpload, SentFile};
use upload_coordinator::domain::object_settings::{ObjectSettings, Sse};
use upload_coordinator::domain::upload::{Declared, Strategy};
use upload_coordinator::storage::{ObjectStore as _, PartIntegrity};

use crate::support::mp3;
use crate::support::world::World;

/// The size of the parts of direct uploads.
const PART: usize = 4096;

async fn world() -> World {
    let object = ObjectSettings {
        sse: Some(Sse::Aes256),
        storage_class: Some("STANDARD_IA".into()),
        cache_control: Some("private".into()),
        tags: [("team".to_owned(), "music".to_owned())].into(),
        ..ObjectSettings::default()
    };
    World::with(|policy| policy.object = object).await
}

fn new(strategy: Strategy) -> NewUpload {
    let declared = Declared { size: Some(100), ..Declared::default() };
    NewUpload { strategy: Some(strategy), declared, ..NewUpload::default() }
}

#[tokio::test]
async fn signed_requests_send_the_settings_as_headers_and_forms_send_them_as_fields() {
    let world = world().await;
    let expected = [
        ("cache-control", "private"),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-tagging", "team=music"),
    ];
    let in_store = NewUpload { divided_by: DividedBy::ClientAtStore, ..new(Strategy::Multipart) };
    for new in [new(Strategy::Put), in_store] {
        let created = world.app.create_upload(&world.owner, new).await.unwrap();
        let request = created.request.unwrap();
        for (name, value) in expected {
            assert_eq!(request.headers.get(name).map(String::as_str), Some(value), "{name}");
            assert!(!request.url.contains(&format!("&{name}=")), "{}", request.url);
        }
        let renewed = world.app.renew_upload(&world.owner, created.upload.id, None).await.unwrap();
        if let Some(request) = renewed.request {
            assert_eq!(request.headers.get("cache-control").unwrap(), "private");
        }
    }
    let form = world.app.create_upload(&world.owner, new(Strategy::Post)).await.unwrap();
    let fields = form.request.unwrap().fields.unwrap();
    let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(field("Cache-Control"), Some("private"));
    assert_eq!(field("x-amz-server-side-encryption"), Some("AES256"));
    let tags = "<Tagging><TagSet><Tag><Key>team</Key><Value>music</Value></Tag></TagSet></Tagging>";
    assert_eq!(field("tagging"), Some(tags));
}

#[tokio::test]
async fn objects_that_the_service_writes_have_the_settings() {
    let world = world().await;
    let sse = async |key: &str| world.store.head(key).await.unwrap().unwrap().sse;
    let created = world.app.create_upload(&world.owner, new(Strategy::Multipart)).await.unwrap();
    let (key, id) = (created.upload.key.as_str(), created.upload.multipart_id.clone().unwrap());
    let body = Bytes::from(mp3(100, 1));
    world.store.upload_part(key, &id, 1, body, PartIntegrity::Signature).await.unwrap();
    world.app.complete_upload(&world.owner, created.upload.id, None).await.unwrap();
    assert_eq!(sse(key).await.as_deref(), Some("AES256"), "in parts");

    for size in [100, 3 * PART] {
        let track = world.track().await;
        let file = DirectUpload {
            track: track.id,
            policy: None,
            filename: "a.mp3".into(),
            sent: SentFile::default(),
        };
        let body = futures_util::stream::iter([Ok::<_, AppError>(Bytes::from(mp3(size, 2)))]);
        let sent = world.app.direct_upload(&world.owner, file, body).await.unwrap();
        let key = sent.1.unwrap().key.clone();
        assert_eq!(sse(key.as_str()).await.as_deref(), Some("AES256"), "{size} bytes");
    }
}
