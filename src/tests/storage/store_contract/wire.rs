//! Signed requests in the form that clients send, and altered requests that must be refused.

use bytes::Bytes;
use chrono::TimeDelta;
use upload_coordinator::domain::checksum::{Algorithm, Checksum};
use upload_coordinator::domain::object_settings::{ObjectSettings, Sse};
use upload_coordinator::net::http_client;
use upload_coordinator::storage::s3::{CorsRule, S3, S3Credentials, S3Settings};
use upload_coordinator::storage::signer::{
    GetRequest, Operation, PartRequest, PostRequest, PutRequest, SignedRequest,
};
use upload_coordinator::storage::{ObjectStore as _, PartIntegrity, PutOptions, StoreError};

use super::Subject;
use crate::storage::servers::{CORS_TURN, Kind, now};

const HOUR: TimeDelta = TimeDelta::hours(1);

async fn sign(on: &Subject, key: &str, request: &PutRequest) -> SignedRequest {
    on.store.signer.put(key, request, now(), HOUR).await.unwrap()
}

/// A 4xx status. The exact code depends on the store.
#[track_caller]
fn refused(response: &reqwest::Response) {
    assert!(response.status().is_client_error(), "{response:?}");
}

#[track_caller]
fn taken(response: &reqwest::Response) {
    assert!(response.status().is_success(), "{response:?}");
}

pub async fn everything_declared_arrives_with_the_object(on: &Subject) {
    let key = on.key("object");
    let checksum = Checksum::of(Algorithm::Sha256, b"abc");
    let request = PutRequest {
        content_type: Some("audio/mpeg".into()),
        content_length: Some(3),
        checksum: Some(checksum.clone()),
        write_once: on.capabilities().write_once,
        metadata: [("artist".to_owned(), "Nina Simone".to_owned())].into(),
        object: ObjectSettings::default(),
    };
    taken(&on.send(&sign(on, &key, &request).await, b"abc").await);
    let meta = on.objects().head(&key).await.unwrap().unwrap();
    assert_eq!((meta.size, meta.content_type.as_deref()), (3, Some("audio/mpeg")));
    assert_eq!(meta.metadata, request.metadata);
    let returned = meta.checksums.contains(&checksum);
    assert_eq!(returned, on.capabilities().returns_checksum(Algorithm::Sha256));
}

pub async fn a_bare_url_takes_a_bare_put(on: &Subject) {
    let key = on.key("object");
    let signed = sign(on, &key, &PutRequest::default()).await;
    // Azure requires a header with the type of the blob for every PUT.
    assert!(signed.headers.is_empty() || !on.speaks_s3(), "{:?}", signed.headers);
    taken(&on.send(&signed, b"abc").await);
    assert_eq!(on.bytes(&key).await.unwrap(), "abc");
}

pub async fn a_url_is_for_one_key_and_one_method(on: &Subject) {
    let signed = sign(on, &on.key("object"), &PutRequest::default()).await;
    let mut moved = signed.clone();
    moved.url = moved.url.replacen("/object?", "/another?", 1);
    refused(&on.send(&moved, b"abc").await);
    for method in ["GET", "DELETE", "POST"] {
        let other = SignedRequest { method, ..signed.clone() };
        refused(&on.send(&other, b"").await);
    }
    let mut unsigned = signed.clone();
    unsigned.url.truncate(unsigned.url.find('?').unwrap());
    refused(&on.send(&unsigned, b"abc").await);
    for name in ["object", "another"] {
        assert_eq!(on.objects().head(&on.key(name)).await.unwrap(), None, "{name}");
    }
}

pub async fn a_length_other_than_signed_is_refused(on: &Subject) {
    let key = on.key("object");
    let request = PutRequest { content_length: Some(3), ..PutRequest::default() };
    let signed = sign(on, &key, &request).await;
    for body in [&b"abcd"[..], b"ab", b""] {
        if body.is_empty() && !on.speaks_s3() {
            continue; // this client sends no length, which Azure requires
        }
        let response = on.send(&signed, body).await;
        assert_eq!(response.status().is_client_error(), on.capabilities().signed_length);
    }
    if on.capabilities().signed_length {
        assert_eq!(on.objects().head(&key).await.unwrap(), None);
    }
    taken(&on.send(&signed, b"abc").await);
}

pub async fn a_content_type_other_than_signed_is_refused(on: &Subject) {
    let key = on.key("object");
    let request = PutRequest { content_type: Some("audio/mpeg".into()), ..PutRequest::default() };
    let mut signed = sign(on, &key, &request).await;
    signed.headers.insert("content-type".into(), "text/html".into());
    let response = on.send(&signed, b"abc").await;
    assert_eq!(response.status().is_client_error(), on.capabilities().signed_content_type);
}

pub async fn a_declared_header_cannot_be_left_out(on: &Subject) {
    let key = on.key("object");
    let request = PutRequest {
        content_type: Some("audio/mpeg".into()),
        checksum: Some(Checksum::of(Algorithm::Sha256, b"abc")),
        write_once: on.capabilities().accepts_write_once(),
        metadata: [("artist".to_owned(), "a".to_owned())].into(),
        content_length: None,
        object: ObjectSettings {
            cache_control: Some("private".into()),
            ..ObjectSettings::default()
        },
    };
    let whole = sign(on, &key, &request).await;
    // A SAS of Azure does not cover headers.
    let covered = |name: &&String| on.speaks_s3() || **name == "x-ms-blob-type";
    for name in whole.headers.keys().filter(covered) {
        let mut less = whole.clone();
        less.headers.remove(name);
        refused(&on.send(&less, b"abc").await);
    }
    assert_eq!(on.objects().head(&key).await.unwrap(), None);
}

/// Otherwise a client could set metadata that was not signed.
pub async fn an_unsigned_amz_header_is_refused(on: &Subject) {
    let key = on.key("object");
    let mut signed = sign(on, &key, &PutRequest::default()).await;
    if !on.speaks_s3() {
        signed.headers.insert("x-ms-meta-smuggled".into(), "yes".into());
        return taken(&on.send(&signed, b"abc").await);
    }
    signed.headers.insert("x-amz-meta-smuggled".into(), "yes".into());
    refused(&on.send(&signed, b"abc").await);
    assert_eq!(on.objects().head(&key).await.unwrap(), None);
}

pub async fn a_body_that_breaks_its_checksum_is_refused(on: &Subject) {
    for algorithm in Algorithm::ALL {
        let key = on.key(algorithm.name());
        let checksum = Some(Checksum::of(algorithm, b"right"));
        let signed = sign(on, &key, &PutRequest { checksum, ..PutRequest::default() }).await;
        let response = on.send(&signed, b"wrong").await;
        let enforced = on.capabilities().enforces_checksum(algorithm);
        assert_eq!(response.status().is_client_error(), enforced, "{algorithm} {response:?}");
        assert_eq!(on.bytes(&key).await.is_none(), enforced, "{algorithm}");
        taken(&on.send(&signed, b"right").await);
        assert_eq!(on.bytes(&key).await.unwrap(), "right", "{algorithm}");
    }
}

pub async fn an_expired_url_is_refused(on: &Subject) {
    let key = on.key("object");
    let past = now() - TimeDelta::hours(2);
    let presigner = &on.store.signer;
    let signed = presigner.put(&key, &PutRequest::default(), past, HOUR).await.unwrap();
    refused(&on.send(&signed, b"abc").await);
    assert_eq!(on.objects().head(&key).await.unwrap(), None);
    let get = presigner.get(&key, &GetRequest::default(), past, HOUR).await.unwrap();
    refused(&on.send(&get, b"").await);
}

pub async fn a_longer_expiry_than_signed_is_refused(on: &Subject) {
    let key = on.key("object");
    let mut signed = sign(on, &key, &PutRequest::default()).await;
    let before = signed.url.clone();
    signed.url = if on.speaks_s3() {
        before.replacen("X-Amz-Expires=3600", "X-Amz-Expires=7200", 1)
    } else {
        before.replacen("&se=20", "&se=21", 1)
    };
    assert_ne!(signed.url, before);
    refused(&on.send(&signed, b"abc").await);
    assert_eq!(on.objects().head(&key).await.unwrap(), None);
}

pub async fn a_second_put_to_a_write_once_url_is_refused(on: &Subject) {
    let key = on.key("object");
    let request = PutRequest { write_once: true, ..PutRequest::default() };
    let signed = sign(on, &key, &request).await;
    let first = on.send(&signed, b"one").await;
    if !on.capabilities().accepts_write_once() {
        assert_eq!(first.status(), 501);
        assert_eq!(on.bytes(&key).await, None);
        return;
    }
    taken(&first);
    let second = on.send(&signed, b"two").await;
    let effective = on.capabilities().write_once;
    assert_eq!(second.status().is_client_error(), effective, "{second:?}");
    assert_eq!(on.bytes(&key).await.unwrap(), if effective { "one" } else { "two" });
}

pub async fn a_download_carries_the_name_that_was_signed(on: &Subject) {
    let key = on.key("object");
    on.put(&key, b"abc").await;
    let request = GetRequest {
        content_disposition: Some(
            r#"attachment; filename="a b.mp3"; filename*=UTF-8''%C3%A4.mp3"#.into(),
        ),
        content_type: Some("audio/mpeg".into()),
        cache_control: Some("private".into()),
        content_language: Some("und".into()),
        version_id: None,
    };
    let signed = on.store.signer.get(&key, &request, now(), HOUR).await.unwrap();
    let response = on.send(&signed, b"").await;
    taken(&response);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(Some(header("content-disposition")), request.content_disposition);
    assert_eq!(Some(header("content-type")), request.content_type);
    assert_eq!(Some(header("cache-control")), request.cache_control);
    assert_eq!(Some(header("content-language")), request.content_language);
    assert_eq!(response.bytes().await.unwrap(), "abc");
    let mut other = signed.clone();
    other.url = other.url.replacen("audio%2Fmpeg", "text%2Fhtml", 1);
    refused(&on.send(&other, b"").await);
}

async fn post(
    on: &Subject,
    signed: &SignedRequest,
    file: &str,
    change: Option<(&str, &str)>,
) -> reqwest::Response {
    let mut form = reqwest::multipart::Form::new();
    for (name, value) in signed.fields.clone().unwrap() {
        let value = change.filter(|(n, _)| *n == name).map_or(value, |(_, v)| v.to_owned());
        form = form.text(name, value);
    }
    let file = reqwest::multipart::Part::text(file.to_owned()).file_name("a.mp3");
    on.http().post(&signed.url).multipart(form.part("file", file)).send().await.unwrap()
}

pub async fn a_form_is_held_to_its_policy(on: &Subject) {
    if !on.capabilities().post_policy {
        return;
    }
    let key = on.key("object");
    let request = PostRequest {
        content_type: Some("audio/mpeg".into()),
        size: Some((2, 4)),
        metadata: [("artist".to_owned(), "a".to_owned())].into(),
        object: ObjectSettings {
            cache_control: Some("private".into()),
            ..ObjectSettings::default()
        },
        with_location: true,
    };
    let presigner = &on.store.signer;
    let signed = presigner.post(&key, &request, now(), HOUR).await.unwrap();
    let another = on.key("another");
    for (file, change) in [
        ("12345", None),
        ("1", None),
        ("123", Some(("key", another.as_str()))),
        ("123", Some(("Content-Type", "text/html"))),
        ("123", Some(("x-amz-meta-artist", "b"))),
        ("123", Some(("Cache-Control", "public"))),
        ("123", Some(("X-Amz-Signature", "00"))),
    ] {
        refused(&post(on, &signed, file, change).await);
    }
    let old = presigner.post(&key, &request, now() - TimeDelta::hours(2), HOUR).await.unwrap();
    refused(&post(on, &old, "123", None).await);
    assert_eq!(on.objects().head(&key).await.unwrap(), None);
    assert_eq!(on.objects().head(&another).await.unwrap(), None);

    let sent = post(on, &signed, "123", None).await;
    assert_eq!(sent.status(), 201);
    let location = sent.text().await.unwrap();
    assert!(location.contains("<Location>") && location.contains(&key), "{location}");
    let meta = on.objects().head(&key).await.unwrap().unwrap();
    assert_eq!((meta.size, meta.content_type.as_deref()), (3, Some("audio/mpeg")));
    assert_eq!(meta.metadata, request.metadata);
}

pub async fn an_upload_in_presigned_parts_arrives(on: &Subject) {
    if !on.capabilities().s3_multipart {
        return; // storage::azure has a test of its own
    }
    let (key, now) = (on.key("object"), now());
    let request = PutRequest {
        content_type: Some("audio/mpeg".into()),
        metadata: [("artist".to_owned(), "a".to_owned())].into(),
        ..PutRequest::default()
    };
    let presigner = &on.store.signer;
    let sign = async |operation| presigner.sign(&key, operation, now, HOUR).await.unwrap();
    let begun = on.send(&sign(Operation::CreateMultipart(&request)).await, b"").await;
    taken(&begun);
    let xml = begun.text().await.unwrap();
    let id = xml.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0;

    let part = PartRequest {
        content_length: Some(3),
        checksum: Some(Checksum::of(Algorithm::Crc32, b"abc")),
    };
    let first = Operation::UploadPart { upload_id: id, number: 1, request: &part };
    let signed = sign(first).await;
    let mut second = signed.clone();
    second.url = second.url.replacen("partNumber=1&", "partNumber=2&", 1);
    refused(&on.send(&second, b"abc").await);
    refused(&on.send(&signed, b"abcd").await);
    let sent = on.send(&signed, b"abc").await;
    taken(&sent);
    let listed = on.objects().list_parts(&key, id).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(sent.headers()["etag"].to_str().unwrap().trim_matches('"'), listed[0].etag);

    let parts = sign(Operation::ListParts { upload_id: id }).await;
    let parts = on.http().get(&parts.url).send().await.unwrap().text().await.unwrap();
    assert!(parts.contains(&listed[0].etag), "{parts}");

    let end = sign(Operation::CompleteMultipart { upload_id: id, write_once: false }).await;
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"{}\"</ETag></Part>\
         </CompleteMultipartUpload>",
        listed[0].etag
    );
    taken(&on.http().post(&end.url).body(list).send().await.unwrap());
    let meta = on.objects().head(&key).await.unwrap().unwrap();
    assert_eq!((meta.size, meta.content_type.as_deref()), (3, Some("audio/mpeg")));
    assert_eq!(meta.metadata, request.metadata);
}

/// Stores objects by a signed PUT, by a form, by a PUT of the service, and in parts.
pub async fn an_object_is_kept_as_its_settings_say(on: &Subject) {
    if !on.speaks_s3() {
        return; // storage::azure has a test of its own
    }
    let encrypts = on.capabilities().sse;
    let tags = !matches!(on.kind, Kind::Embedded | Kind::Unconditional | Kind::Garage);
    let object = ObjectSettings {
        sse: encrypts.then_some(Sse::Aes256),
        cache_control: Some("private, max-age=60".into()),
        tags: tags.then(|| ("team".to_owned(), "a b/c".to_owned())).into_iter().collect(),
        ..ObjectSettings::default()
    };
    let request = PutRequest { object: object.clone(), ..PutRequest::default() };
    taken(&on.send(&sign(on, &on.key("put"), &request).await, b"abc").await);
    let presigner = &on.store.signer;
    let key = on.key("form");
    // SeaweedFS refuses the field `tagging` of a form for every policy.
    let form_tags = tags && on.kind != Kind::Seaweedfs;
    let in_form = ObjectSettings {
        tags: if form_tags { object.tags.clone() } else { [].into() },
        ..object.clone()
    };
    let form = PostRequest { object: in_form, ..PostRequest::default() };
    taken(&post(on, &presigner.post(&key, &form, now(), HOUR).await.unwrap(), "abc", None).await);
    let options = PutOptions { object: object.clone(), ..PutOptions::default() };
    on.objects().put(&on.key("own"), Bytes::from_static(b"abc"), &options).await.unwrap();
    let key = on.key("parts");
    let id = on.objects().create_multipart(&key, &options).await.unwrap();
    let (body, integrity) = (Bytes::from_static(b"abc"), PartIntegrity::Signature);
    let part = on.objects().upload_part(&key, &id, 1, body, integrity).await.unwrap();
    on.objects().complete_multipart(&key, &id, &[part], false).await.unwrap();

    let client = on.s3.as_ref().unwrap().sdk();
    for name in ["put", "form", "own", "parts"] {
        let head = client.head_object().bucket(&on.store.bucket).key(on.key(name)).send().await;
        let head = head.unwrap();
        assert_eq!(head.cache_control(), object.cache_control.as_deref(), "{name}");
        let sse = head.server_side_encryption().map(|sse| sse.as_str().to_owned());
        assert!(!encrypts || sse.as_deref() == Some("AES256"), "{name} {sse:?}");
        if tags && (form_tags || name != "form") {
            let stored = client.get_object_tagging().bucket(&on.store.bucket).key(on.key(name));
            let stored = stored.send().await.unwrap();
            let stored: Vec<_> =
                stored.tag_set().iter().map(|tag| (tag.key(), tag.value())).collect();
            assert_eq!(stored, [("team", "a b/c")], "{name}");
        }
    }
}

pub async fn a_presigned_part_is_held_to_its_checksum(on: &Subject) {
    for algorithm in Algorithm::ALL {
        let (key, checksum) = (on.key(algorithm.name()), Checksum::of(algorithm, b"right"));
        let options = PutOptions { checksum: Some(checksum.clone()), ..PutOptions::default() };
        let Ok(id) = on.objects().create_multipart(&key, &options).await else {
            assert!(!on.capabilities().part_checksums.contains(&algorithm), "{algorithm}");
            continue;
        };
        let part = PartRequest { content_length: None, checksum: Some(checksum) };
        let part = Operation::UploadPart { upload_id: &id, number: 1, request: &part };
        let part = on.store.signer.sign(&key, part, now(), HOUR).await.unwrap();
        let (right, wrong) = (on.send(&part, b"right").await, on.send(&part, b"wrong").await);
        let held = right.status().is_success() && wrong.status().is_client_error();
        let stated = on.capabilities().part_checksums.contains(&algorithm);
        assert_eq!(held, stated, "{algorithm} {right:?} {wrong:?}");
        on.objects().abort_multipart(&key, &id).await.unwrap();
    }
}

pub async fn a_key_that_needs_escaping_can_be_signed_for(on: &Subject) {
    for name in ["a b", "100%", "ü/é", "a+b=c&d;e", "it's (x)*!~,:@$", "名"] {
        let key = on.key(name);
        taken(&on.send(&sign(on, &key, &PutRequest::default()).await, b"abc").await);
        assert_eq!(on.bytes(&key).await.unwrap(), "abc", "{name}");
        let get = on.store.signer.get(&key, &GetRequest::default(), now(), HOUR).await.unwrap();
        assert_eq!(on.send(&get, b"").await.bytes().await.unwrap(), "abc", "{name}");
    }
}

pub async fn wrong_credentials_are_distinguished_from_a_missing_bucket_and_a_dead_server(
    on: &Subject,
) {
    let Some(right) = on.settings.clone() else { return };
    let wrong = S3Settings {
        credentials: S3Credentials::Static {
            access_key_id: "nobody".into(),
            secret_access_key: "wrong".into(),
            session_token: None,
        },
        ..right.clone()
    };
    let elsewhere = S3Settings { bucket: "no-such-bucket-here".into(), ..right.clone() };
    let dead = S3Settings {
        // The port of the discard service, which nobody listens on.
        endpoint: Some("http://127.0.0.1:9".parse().unwrap()),
        max_attempts: 1,
        ..right
    };
    let connect = async |settings| S3::connect(&settings, &http_client()).await.unwrap();
    let (wrong, elsewhere, dead) =
        (connect(wrong).await, connect(elsewhere).await, connect(dead).await);
    let put = async |s3: &S3| s3.put("k", Bytes::new(), &PutOptions::default()).await.unwrap_err();

    assert!(matches!(wrong.check_bucket().await, Err(StoreError::AccessDenied(_))));
    assert!(matches!(put(&wrong).await, StoreError::AccessDenied(_)));
    let error = elsewhere.check_bucket().await;
    // A store may hide the existence of buckets from an access key that may not use them.
    assert!(
        matches!(error, Err(StoreError::NoSuchBucket | StoreError::AccessDenied(_))),
        "{error:?}"
    );
    let error = put(&elsewhere).await;
    assert!(matches!(error, StoreError::NoSuchBucket | StoreError::AccessDenied(_)), "{error:?}");
    assert!(matches!(dead.check_bucket().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(dead.head("k").await, Err(StoreError::Unavailable(_))));
}

pub async fn cors_rules_come_back_as_they_were_put(on: &Subject) {
    let _turn = CORS_TURN.lock().await;
    let rules = [CorsRule::for_uploads(&["https://app.example.com".to_owned()])];
    match on.put_cors(&rules).await {
        Ok(()) => assert_eq!(on.get_cors().await.unwrap(), rules),
        // MinIO has CORS rules only for the whole server.
        Err(StoreError::Refused { .. }) if on.kind == Kind::Minio => {}
        Err(error) => panic!("{error:?}"),
    }
}
