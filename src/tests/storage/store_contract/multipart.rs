use bytes::Bytes;
use upload_coordinator::domain::checksum::{Algorithm, Checksum};
use upload_coordinator::storage::{Part, PartIntegrity, PutOptions, StoreError};

use super::Subject;
use crate::storage::servers::Kind;

/// S3's smallest size of every part except the last.
const FULL: usize = 5 * 1024 * 1024;

async fn send(on: &Subject, key: &str, id: &str, number: u16, body: impl Into<Bytes>) -> Part {
    on.objects().upload_part(key, id, number, body.into(), PartIntegrity::Signature).await.unwrap()
}

pub async fn parts_become_one_object(on: &Subject) {
    let key = on.key("object");
    let options = PutOptions {
        content_type: Some("audio/mpeg".into()),
        metadata: [("artist".to_owned(), "a".to_owned())].into(),
        ..PutOptions::default()
    };
    let id = on.objects().create_multipart(&key, &options).await.unwrap();
    // Parts can be sent in any order.
    let last = send(on, &key, &id, 2, "the end").await;
    let first = send(on, &key, &id, 1, vec![b'a'; FULL]).await;
    assert_eq!((first.size, last.size, last.number), (FULL as u64, 7, 2));
    let listed = on.objects().list_parts(&key, &id).await.unwrap();
    let facts = |parts: &[Part]| -> Vec<_> {
        parts.iter().map(|part| (part.number, part.etag.clone(), part.size)).collect()
    };
    assert_eq!(facts(&listed), facts(&[first, last]), "ascending, as they were sent");
    assert_eq!(on.objects().head(&key).await.unwrap(), None, "no object before the end");

    let written = on.objects().complete_multipart(&key, &id, &listed, false).await.unwrap();
    let meta = on.objects().head(&key).await.unwrap().unwrap();
    assert_eq!((&meta.etag, meta.size), (&written.etag, FULL as u64 + 7));
    assert_eq!(meta.content_type.as_deref(), Some("audio/mpeg"));
    assert_eq!(meta.metadata, options.metadata);
    let tail = on.objects().read(&key, FULL as u64 - 1..FULL as u64 + 9, &meta.etag).await.unwrap();
    assert_eq!(tail, "athe end");
    let again = on.objects().list_parts(&key, &id).await;
    assert!(matches!(again, Err(StoreError::NoSuchMultipart)), "{again:?}");
}

pub async fn checked_parts_make_an_object_whose_checksum_head_tells(on: &Subject) {
    if !on.capabilities().checked_parts {
        return;
    }
    let (key, parts) = (on.key("object"), [vec![b'a'; FULL], b"the end".to_vec()]);
    let whole = Checksum::of(Algorithm::Crc64nvme, &parts.concat());
    // Of the declared checksum, only the algorithm is used at the start.
    let options = PutOptions {
        checksum: Some(Checksum::of(Algorithm::Crc64nvme, b"")),
        ..PutOptions::default()
    };
    let id = on.objects().create_multipart(&key, &options).await.unwrap();
    let mut sent = Vec::new();
    for (number, part) in (1..).zip(parts) {
        let integrity = PartIntegrity::Checksum;
        sent.push(
            on.objects().upload_part(&key, &id, number, part.into(), integrity).await.unwrap(),
        );
    }
    on.objects().complete_multipart(&key, &id, &sent, false).await.unwrap();
    let meta = on.objects().head(&key).await.unwrap().unwrap();
    assert!(meta.checksums.contains(&whole), "{meta:?}");
}

pub async fn a_part_that_is_sent_again_replaces_the_first(on: &Subject) {
    let key = on.key("object");
    let id = on.objects().create_multipart(&key, &PutOptions::default()).await.unwrap();
    send(on, &key, &id, 1, "one").await;
    let second = send(on, &key, &id, 1, "another").await;
    let listed = match on.objects().list_parts(&key, &id).await {
        // SeaweedFS lists both parts. Their times are rounded to seconds, so it is unknown which
        // one is newer if both were sent within one second.
        Err(StoreError::Protocol(_)) if on.kind == Kind::Seaweedfs => {
            return on.objects().abort_multipart(&key, &id).await.unwrap();
        }
        listed => listed.unwrap(),
    };
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0].etag, listed[0].size), (&second.etag, 7));
    on.objects().complete_multipart(&key, &id, &listed, false).await.unwrap();
    assert_eq!(on.bytes(&key).await.unwrap(), "another");
}

pub async fn an_aborted_upload_is_gone(on: &Subject) {
    let key = on.key("object");
    let id = on.objects().create_multipart(&key, &PutOptions::default()).await.unwrap();
    let part = send(on, &key, &id, 1, "one").await;
    on.objects().abort_multipart(&key, &id).await.unwrap();
    on.objects().abort_multipart(&key, &id).await.unwrap();
    let listed = on.objects().list_parts(&key, &id).await;
    assert!(matches!(listed, Err(StoreError::NoSuchMultipart)), "{listed:?}");
    let sent = on
        .objects()
        .upload_part(&key, &id, 1, Bytes::from_static(b"one"), PartIntegrity::Signature)
        .await;
    assert!(matches!(sent, Err(StoreError::NoSuchMultipart)), "{sent:?}");
    let done = on.objects().complete_multipart(&key, &id, &[part], false).await;
    assert!(matches!(done, Err(StoreError::NoSuchMultipart)), "{done:?}");
    assert_eq!(on.objects().head(&key).await.unwrap(), None);
}

pub async fn a_completion_never_overwrites_where_the_store_can(on: &Subject) {
    let key = on.key("object");
    on.put(&key, b"first").await;
    let id = on.objects().create_multipart(&key, &PutOptions::default()).await.unwrap();
    let part = send(on, &key, &id, 1, "second").await;
    let done = on.objects().complete_multipart(&key, &id, &[part], true).await;
    let refused = matches!(done, Err(StoreError::PreconditionFailed));
    assert_eq!(refused, on.capabilities().multipart_write_once, "{done:?}");
    if !on.capabilities().accepts_write_once() {
        assert!(matches!(done, Err(StoreError::Refused { .. })), "{done:?}");
    }
    assert_eq!(on.bytes(&key).await.unwrap(), if done.is_err() { "first" } else { "second" });
    on.objects().abort_multipart(&key, &id).await.unwrap();
}

async fn unfinished(on: &Subject, prefix: &str) -> Vec<(String, String)> {
    let (mut listed, mut marker) = (Vec::new(), None);
    loop {
        let page = on.objects().list_multiparts(prefix, marker.as_deref()).await.unwrap();
        listed.extend(page.0);
        marker = page.1;
        if marker.is_none() {
            break;
        }
    }
    assert!(listed.iter().all(|upload| upload.initiated.is_some()));
    let mut listed: Vec<_> = listed.into_iter().map(|u| (u.key, u.upload_id)).collect();
    listed.sort();
    listed
}

pub async fn unfinished_uploads_are_listed_below_their_prefix(on: &Subject) {
    let mut begun = Vec::new();
    for name in ["a", "b b", "b b", "c/d"] {
        let key = on.key(name);
        let id = on.objects().create_multipart(&key, &PutOptions::default()).await.unwrap();
        begun.push((key, id));
    }
    begun.sort();
    assert_eq!(unfinished(on, &on.key("b b")).await, begun[1..3], "by the whole key");
    let all = unfinished(on, on.prefix()).await;
    assert_eq!(all == begun, on.capabilities().list_multiparts, "{all:?}");
    for (key, id) in &begun {
        on.objects().abort_multipart(key, id).await.unwrap();
    }
    for (key, _) in &begun {
        assert_eq!(unfinished(on, key).await, [], "{key}");
    }
}
