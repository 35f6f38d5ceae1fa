//! What is special about Azure Blob Storage, on Azurite (`scripts/with-server azurite`). Without
//! `TEST_S3_KIND=azurite`, these tests do nothing.
//!
//! Where Azurite 3.35 differs from the documentation of Azure:
//! - it has no versioning, so `src/storage/azure/versions.rs` is not tested here;
//! - a wrong `Content-MD5` is `InvalidOperation`, not `Md5Mismatch`;
//! - it does not check `x-ms-content-crc64`, and the service does not use it;
//! - a PUT with a SAS that may only create is `AuthorizationPermissionMismatch` if the blob exists,
//!   not `UnauthorizedBlobOverwrite`;
//! - a wrong key is `AuthorizationFailure`, not `AuthenticationFailed`;
//! - a range after the end of the blob is 206 without bytes, not 416 `InvalidRange`.

use bytes::Bytes;
use chrono::TimeDelta;
use upload_coordinator::domain::object_settings::{ObjectSettings, Sse};
use upload_coordinator::storage::azure::{AccountKey, Azure, AzureSettings};
use upload_coordinator::storage::cause::Cause;
use upload_coordinator::storage::signer::{
    GetRequest, Operation, PartRequest, PutRequest, SignedRequest,
};
use upload_coordinator::storage::{
    ListRequest, ObjectStore as _, PartIntegrity, PutOptions, StoreError,
};

use super::servers::{Kind, Subject, now};

const HOUR: TimeDelta = TimeDelta::hours(1);

/// Azurite, if it is the store of this run.
async fn azurite() -> Option<Subject> {
    if std::env::var("TEST_S3_KIND").is_ok_and(|kind| kind == "azurite") {
        let on = Subject::server().await;
        assert_eq!(on.kind, Kind::Azurite);
        return Some(on);
    }
    None
}

async fn put(on: &Subject, key: &str, request: &PutRequest) -> SignedRequest {
    on.store.signer.put(key, request, now(), HOUR).await.unwrap()
}

async fn part(on: &Subject, key: &str, id: &str, number: u16) -> SignedRequest {
    let request = PartRequest::default();
    let operation = Operation::UploadPart { upload_id: id, number, request: &request };
    on.store.signer.sign(key, operation, now(), HOUR).await.unwrap()
}

#[tokio::test]
async fn a_write_once_url_never_overwrites_even_without_its_headers() {
    let Some(on) = azurite().await else { return };
    let key = on.key("object");
    let once = PutRequest { write_once: true, ..PutRequest::default() };
    let mut signed = put(&on, &key, &once).await;
    signed.headers.remove("if-none-match");
    assert_eq!(on.send(&signed, b"one").await.status(), 201);
    assert_eq!(on.send(&signed, b"two").await.status(), 403);
    assert_eq!(on.bytes(&key).await.unwrap(), "one");
    // Another permission in the query is another text than the signed one.
    signed.url = signed.url.replacen("sp=c&", "sp=cw&", 1);
    assert_eq!(on.send(&signed, b"two").await.status(), 403);
    assert_eq!(on.bytes(&key).await.unwrap(), "one");
    on.clean_up().await;
}

#[tokio::test]
async fn presigned_parts_become_an_object_with_what_was_declared() {
    let Some(on) = azurite().await else { return };
    let key = on.key("object");
    let options = PutOptions {
        content_type: Some("audio/mpeg".into()),
        metadata: [("album-id".to_owned(), "7".to_owned())].into(),
        ..PutOptions::default()
    };
    let id = on.objects().create_multipart(&key, &options).await.unwrap();
    assert!(on.objects().list_parts(&key, &id).await.unwrap().is_empty());
    for (number, body) in [(2, &b"def"[..]), (1, b"abc"), (3, b"unused")] {
        assert_eq!(on.send(&part(&on, &key, &id, number).await, body).await.status(), 201);
    }
    let mut parts = on.objects().list_parts(&key, &id).await.unwrap();
    let sizes: Vec<_> = parts.iter().map(|part| (part.number, part.size)).collect();
    assert_eq!(sizes, [(1, 3), (2, 3), (3, 6)]);
    parts.pop();
    on.objects().complete_multipart(&key, &id, &parts, true).await.unwrap();
    let meta = on.objects().head(&key).await.unwrap().unwrap();
    assert_eq!((meta.size, meta.content_type.as_deref()), (6, Some("audio/mpeg")));
    assert_eq!(meta.metadata, options.metadata);
    assert_eq!(on.bytes(&key).await.unwrap(), "abcdef");
    // The record is gone with the upload.
    assert_eq!(on.objects().list_multiparts(on.prefix(), None).await.unwrap().0, []);

    // What `part_urls_write_objects` says: without the query of a block, it is a PUT of the whole.
    let mut whole = part(&on, &key, &id, 1).await;
    let (before, query) = whole.url.split_once('?').unwrap();
    let query: Vec<_> = query
        .split('&')
        .filter(|p| !p.starts_with("comp=") && !p.starts_with("blockid="))
        .collect();
    whole.url = format!("{before}?{}", query.join("&"));
    whole.headers.insert("x-ms-blob-type".into(), "BlockBlob".into());
    let overwritten = on.send(&whole, b"other").await.status().is_success();
    assert_eq!(overwritten, on.capabilities().part_urls_write_objects);
    on.clean_up().await;
}

#[tokio::test]
async fn an_abort_and_another_upload_of_the_key_leave_the_object_alone() {
    let Some(on) = azurite().await else { return };
    let key = on.key("object");
    let etag = on.put(&key, b"verified").await.etag;
    let options = PutOptions::default();
    let begin = async || on.objects().create_multipart(&key, &options).await.unwrap();
    let (first, second) = (begin().await, begin().await);
    let send = async |id: &str, number, body: &'static str| {
        let (body, integrity) = (Bytes::from_static(body.as_bytes()), PartIntegrity::Signature);
        on.objects().upload_part(&key, id, number, body, integrity).await.unwrap()
    };
    let one = send(&first, 1, "first").await;
    let other = send(&second, 1, "second").await;
    assert_eq!(on.objects().list_parts(&key, &first).await.unwrap(), [one]);
    on.objects().abort_multipart(&key, &first).await.unwrap();
    let meta = on.objects().head(&key).await.unwrap().unwrap();
    assert_eq!((meta.etag, on.bytes(&key).await.unwrap()), (etag, Bytes::from("verified")));
    on.objects().complete_multipart(&key, &second, &[other], false).await.unwrap();
    assert_eq!(on.bytes(&key).await.unwrap(), "second");
    for id in ["", "no-id", "../escape", &first] {
        let listed = on.objects().list_parts(&key, id).await;
        assert!(matches!(listed, Err(StoreError::NoSuchMultipart)), "{id}: {listed:?}");
    }
    on.clean_up().await;
}

#[tokio::test]
async fn a_list_that_names_a_missing_block_is_refused() {
    let Some(on) = azurite().await else { return };
    let key = on.key("object");
    let id = on.objects().create_multipart(&key, &PutOptions::default()).await.unwrap();
    let body = Bytes::from_static(b"one");
    let sent = on.objects().upload_part(&key, &id, 1, body, PartIntegrity::Signature).await;
    let mut missing = sent.unwrap();
    missing.number = 2;
    let done = on.objects().complete_multipart(&key, &id, &[missing], false).await;
    assert!(
        matches!(&done, Err(StoreError::Refused { code, .. }) if code == "InvalidPart"),
        "{done:?}"
    );
    assert_eq!(on.objects().head(&key).await.unwrap(), None);
    on.objects().abort_multipart(&key, &id).await.unwrap();
}

#[tokio::test]
async fn an_object_that_a_client_leased_can_be_deleted() {
    let Some(on) = azurite().await else { return };
    let key = on.key("object");
    let signed = put(&on, &key, &PutRequest::default()).await;
    assert_eq!(on.send(&signed, b"abc").await.status(), 201);
    // The URL may write, so it may lease.
    let lease = on.http().put(format!("{}&comp=lease", signed.url));
    let lease = lease.header("x-ms-lease-action", "acquire").header("x-ms-lease-duration", "-1");
    assert_eq!(lease.send().await.unwrap().status(), 201);
    on.objects().delete(&key).await.unwrap();
    assert_eq!(on.objects().head(&key).await.unwrap(), None);
}

#[tokio::test]
async fn the_settings_of_a_policy_are_those_of_the_blob() {
    let Some(on) = azurite().await else { return };
    let object = ObjectSettings {
        sse: Some(Sse::Aes256),
        kms_key_id: None,
        storage_class: Some("COOL".into()),
        cache_control: Some("private, max-age=60".into()),
        tags: [("team".to_owned(), "a b".to_owned())].into(),
    };
    let request = PutRequest { object: object.clone(), ..PutRequest::default() };
    let signed = put(&on, &on.key("put"), &request).await;
    assert_eq!(on.send(&signed, b"abc").await.status(), 201);
    let options = PutOptions { object, ..PutOptions::default() };
    on.objects().put(&on.key("own"), Bytes::from_static(b"abc"), &options).await.unwrap();
    let key = on.key("parts");
    let id = on.objects().create_multipart(&key, &options).await.unwrap();
    let body = Bytes::from_static(b"abc");
    let sent = on.objects().upload_part(&key, &id, 1, body, PartIntegrity::Signature).await;
    on.objects().complete_multipart(&key, &id, &[sent.unwrap()], false).await.unwrap();
    for name in ["put", "own", "parts"] {
        let key = on.key(name);
        let get = on.store.signer.get(&key, &GetRequest::default(), now(), HOUR).await.unwrap();
        let response = on.send(&get, b"").await;
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        assert_eq!(header("cache-control"), "private, max-age=60", "{name} {response:?}");
        assert_eq!(header("x-ms-tag-count"), "1", "{name} {response:?}");
        let meta = on.objects().head(&key).await.unwrap().unwrap();
        assert_eq!(meta.sse.as_deref(), Some("AES256"), "{name}");
    }
    on.clean_up().await;
}

#[tokio::test]
async fn a_wrong_key_a_missing_container_and_a_dead_server_are_different_errors() {
    let Some(on) = azurite().await else { return };
    let (_, right, _) = on.azure.clone().unwrap();
    let right = AzureSettings { max_attempts: 1, ..right };
    let key = AccountKey::parse(&"d3Jvbmc=".into()).unwrap();
    let wrong = AzureSettings { key, ..right.clone() };
    let missing = AzureSettings { container: "no-such-container".into(), ..right.clone() };
    let endpoint = Some("http://127.0.0.1:9".parse().unwrap());
    let dead = AzureSettings { endpoint, ..right };
    let connect = |settings: &AzureSettings| Azure::connect(settings).unwrap();
    let error = connect(&wrong).check_bucket().await.unwrap_err();
    assert!(matches!(error, StoreError::AccessDenied(_)), "{error:?}");
    let put = connect(&wrong).put("k", Bytes::new(), &PutOptions::default()).await;
    assert!(matches!(put, Err(StoreError::AccessDenied(_))), "{put:?}");
    let missing = connect(&missing);
    assert!(matches!(missing.check_bucket().await, Err(StoreError::NoSuchBucket)));
    let put = missing.put("k", Bytes::new(), &PutOptions::default()).await;
    assert!(matches!(put, Err(StoreError::NoSuchBucket)), "{put:?}");
    let error = connect(&dead).check_bucket().await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::ConnectionRefused), "{error:?}");
}

#[tokio::test]
async fn the_records_of_multipart_uploads_are_in_no_listing() {
    let Some(on) = azurite().await else { return };
    let own = on.with_own_bucket().await.unwrap();
    let options = PutOptions::default();
    let id = own.objects().create_multipart("k", &options).await.unwrap();
    own.put("k2", b"abc").await;
    let page = own.objects().list(&ListRequest::default()).await.unwrap();
    let keys: Vec<_> = page.objects.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(keys, ["k2"]);
    let open = own.objects().list_multiparts("", None).await.unwrap().0;
    assert_eq!(
        open.iter().map(|open| (&*open.key, &open.upload_id)).collect::<Vec<_>>(),
        [("k", &id)]
    );
}
