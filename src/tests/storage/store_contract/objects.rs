use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _};
use upload_coordinator::domain::checksum::{Algorithm, Checksum};
use upload_coordinator::storage::{ListRequest, PutOptions, StoreError};

use super::Subject;
use crate::storage::servers::{Kind, now};

pub async fn what_was_put_is_returned_by_head_and_read_back(on: &Subject) {
    let key = on.key("object");
    let options = PutOptions {
        content_type: Some("audio/mpeg".into()),
        metadata: [("artist".to_owned(), "Nina Simone".to_owned())].into(),
        ..PutOptions::default()
    };
    let before = now();
    let written = on.objects().put(&key, Bytes::from_static(b"abc"), &options).await.unwrap();
    assert!(!written.etag.contains('"'), "an ETag is without quotes: {}", written.etag);
    let meta = on.objects().head(&key).await.unwrap().unwrap();
    assert_eq!(meta.etag, written.etag);
    assert_eq!((meta.size, meta.content_type.as_deref()), (3, Some("audio/mpeg")));
    assert_eq!(meta.metadata, options.metadata);
    let age = meta.last_modified.unwrap() - before;
    assert!(age.num_seconds().abs() <= 2, "dated {age} away");
    assert_eq!(on.bytes(&key).await.unwrap(), "abc");
    let other = on.put(&key, b"xyz").await;
    assert_ne!(other.etag, written.etag, "other bytes have another ETag");
}

pub async fn a_missing_object_is_none(on: &Subject) {
    let key = on.key("nothing");
    assert_eq!(on.objects().head(&key).await.unwrap(), None);
    let read = on.objects().read(&key, 0..1, "etag").await;
    assert!(matches!(read, Err(StoreError::PreconditionFailed)), "{read:?}");
}

pub async fn an_empty_object_is_an_object(on: &Subject) {
    let key = on.key("empty");
    let written = on.put(&key, b"").await;
    assert_eq!(on.objects().head(&key).await.unwrap().unwrap().size, 0);
    assert_eq!(on.objects().read(&key, 0..10, &written.etag).await.unwrap(), "");
    let stream = on.objects().read_all(&key, &written.etag).await.unwrap();
    assert_eq!(stream.try_collect::<Vec<_>>().await.unwrap().concat(), b"");
}

pub async fn a_read_is_bound_to_the_etag(on: &Subject) {
    let key = on.key("object");
    let old = on.put(&key, b"old").await;
    let new = on.put(&key, b"new").await;
    assert_eq!(on.objects().read(&key, 0..3, &new.etag).await.unwrap(), "new");
    let read = on.objects().read(&key, 0..3, &old.etag).await;
    assert!(matches!(read, Err(StoreError::PreconditionFailed)), "{read:?}");
    let stream = on.objects().read_all(&key, &old.etag).await;
    assert!(matches!(stream.map(drop), Err(StoreError::PreconditionFailed)));
}

pub async fn a_range_is_cut_at_the_end_of_the_object(on: &Subject) {
    let key = on.key("object");
    let etag = on.put(&key, b"0123456789").await.etag;
    for (range, bytes) in
        [(0..4, "0123"), (4..5, "4"), (8..100, "89"), (10..20, ""), (50..60, ""), (3..3, "")]
    {
        let read = on.objects().read(&key, range.clone(), &etag).await.unwrap();
        assert_eq!(read, bytes, "{range:?}");
    }
}

pub async fn a_stream_gives_the_whole_object(on: &Subject) {
    let key = on.key("object");
    let body: Bytes = (0..300_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>().into();
    let written = on.objects().put(&key, body.clone(), &PutOptions::default()).await.unwrap();
    let mut stream = on.objects().read_all(&key, &written.etag).await.unwrap();
    let mut read = Vec::new();
    while let Some(chunk) = stream.next().await {
        read.extend_from_slice(&chunk.unwrap());
    }
    assert!(read == body, "{} bytes of {}", read.len(), body.len());
}

pub async fn deleting_is_done_once_and_for_all(on: &Subject) {
    let key = on.key("object");
    on.put(&key, b"abc").await;
    on.objects().delete(&key).await.unwrap();
    assert_eq!(on.objects().head(&key).await.unwrap(), None);
    on.objects().delete(&key).await.unwrap();
}

pub async fn many_objects_are_deleted_at_once(on: &Subject) {
    let keys: Vec<_> = ["a", "b c", "d/e", "never-there"].map(|name| on.key(name)).into();
    for key in &keys[..3] {
        on.put(key, b"abc").await;
    }
    if !on.capabilities().batch_delete {
        return;
    }
    assert!(on.objects().delete_batch(&keys).await.unwrap().is_empty());
    for key in &keys {
        assert_eq!(on.objects().head(key).await.unwrap(), None, "{key}");
    }
    assert!(on.objects().delete_batch(&[]).await.unwrap().is_empty());
}

pub async fn head_finds_a_version_by_its_id_and_it_is_deleted_with_its_object(on: &Subject) {
    let key = on.key("object");
    let plain = on.put(&key, b"abc").await;
    assert_eq!(plain.version_id, None, "a bucket without versions");
    assert_eq!(on.objects().head_version(&key, "no-version").await.unwrap(), None);

    let Some(on) = on.with_versions().await else { return };
    let (first, second) = (on.put(&key, b"first").await, on.put(&key, b"second").await);
    let (old, new) = (first.version_id.unwrap(), second.version_id.unwrap());
    let longer = format!("{key}-and-more");
    let other = on.put(&longer, b"other").await.version_id.unwrap();
    let meta = on.objects().head_version(&key, &old).await.unwrap().unwrap();
    assert_eq!((meta.etag, meta.version_id.as_ref(), meta.size), (first.etag, Some(&old), 5));
    let now = on.objects().head(&key).await.unwrap().unwrap();
    assert_eq!((now.etag, now.version_id.as_ref()), (second.etag, Some(&new)));
    on.objects().delete(&key).await.unwrap();
    assert_eq!(on.objects().head(&key).await.unwrap(), None);
    for version in [&old, &new] {
        assert_eq!(on.objects().head_version(&key, version).await.unwrap(), None);
    }
    // The deletion of a missing object leaves no delete marker.
    on.objects().delete(&key).await.unwrap();
    assert_eq!(on.versions(&key).await, Vec::<String>::new());
    assert_eq!(on.versions(&longer).await, [other]);
}

pub async fn a_conditional_put_never_overwrites(on: &Subject) {
    let key = on.key("object");
    let options = PutOptions { if_none_match: true, ..PutOptions::default() };
    let first = on.objects().put(&key, Bytes::from_static(b"one"), &options).await;
    if !on.capabilities().accepts_write_once() {
        assert!(matches!(first, Err(StoreError::Refused { .. })), "{first:?}");
        assert_eq!(on.bytes(&key).await, None);
        return;
    }
    first.unwrap();
    let second = on.objects().put(&key, Bytes::from_static(b"two"), &options).await;
    let refused = matches!(second, Err(StoreError::PreconditionFailed));
    assert_eq!(refused, on.capabilities().write_once, "{second:?}");
    assert_eq!(on.bytes(&key).await.unwrap(), if refused { "one" } else { "two" });
}

pub async fn a_put_on_a_condition_never_replaces_another_object(on: &Subject) {
    let key = on.key("object");
    let first = on.put(&key, b"one").await.etag;
    let on_etag = |etag: &str| PutOptions { if_match: Some(etag.into()), ..PutOptions::default() };
    let second = on.objects().put(&key, Bytes::from_static(b"two"), &on_etag(&first)).await;
    match second {
        Ok(_) => assert_eq!(on.bytes(&key).await.unwrap(), "two"),
        // The store does not support the condition, and refuses the request.
        Err(StoreError::Refused { .. }) => return,
        Err(error) => panic!("{error:?}"),
    }
    let stale = on.objects().put(&key, Bytes::from_static(b"three"), &on_etag(&first)).await;
    let refused = matches!(stale, Err(StoreError::PreconditionFailed));
    assert_ne!(on.kind, Kind::Unconditional);
    let must = matches!(on.kind, Kind::Memory | Kind::Embedded | Kind::Minio);
    assert!(refused || (stale.is_ok() && !must), "{stale:?}");
    assert_eq!(on.bytes(&key).await.unwrap(), if refused { "two" } else { "three" });
    let gone = on.key("nothing");
    let absent = on.objects().put(&gone, Bytes::from_static(b"x"), &on_etag(&first)).await;
    assert!(!must || matches!(absent, Err(StoreError::PreconditionFailed)), "{absent:?}");
}

pub async fn of_racing_creations_one_wins(on: &Subject) {
    if !on.capabilities().write_once {
        return;
    }
    let key = on.key("object");
    let options = PutOptions { if_none_match: true, ..PutOptions::default() };
    let bodies: Vec<_> = (0..16).map(|n| Bytes::from(format!("racer {n:02}"))).collect();
    let racers = bodies.iter().map(|body| on.objects().put(&key, body.clone(), &options));
    let mut winners = Vec::new();
    for (body, result) in bodies.iter().zip(join_all(racers).await) {
        match result {
            Ok(_) => winners.push(body.clone()),
            Err(StoreError::PreconditionFailed) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(winners, [on.bytes(&key).await.unwrap()]);
}

pub async fn a_wrong_checksum_changes_nothing(on: &Subject) {
    for algorithm in Algorithm::ALL {
        let key = on.key(algorithm.name());
        let declared = Checksum::of(algorithm, b"right");
        let options = PutOptions { checksum: Some(declared), ..PutOptions::default() };
        on.objects().put(&key, Bytes::from_static(b"right"), &options).await.unwrap();
        let wrong = on.objects().put(&key, Bytes::from_static(b"wrong"), &options).await;
        let refused = matches!(wrong, Err(StoreError::Refused { .. }));
        assert_eq!(
            refused,
            on.capabilities().enforces_checksum(algorithm),
            "{algorithm} {wrong:?}"
        );
        let expected: &str = if refused { "right" } else { "wrong" };
        assert_eq!(on.bytes(&key).await.unwrap(), expected, "{algorithm}");
    }
}

pub async fn head_returns_a_checksum_if_the_store_records_it(on: &Subject) {
    for algorithm in Algorithm::ALL {
        let key = on.key(algorithm.name());
        let declared = Checksum::of(algorithm, b"right");
        let options = PutOptions { checksum: Some(declared.clone()), ..PutOptions::default() };
        on.objects().put(&key, Bytes::from_static(b"right"), &options).await.unwrap();
        let returned = on.objects().head(&key).await.unwrap().unwrap().checksums;
        let is_returned = on.capabilities().returns_checksum(algorithm);
        assert_eq!(returned.contains(&declared), is_returned, "{algorithm} {returned:?}");
    }
}

pub async fn keys_come_back_as_they_were_put(on: &Subject) {
    let mut names = vec!["a b", "100%", "%20", "ü/é", "it's", "a=b&c;d", "a:b@c", "(x)*!~,", "名"];
    // SeaweedFS declares that the keys in listings are encoded, but does not encode `+`. The keys
    // of uploads contain no `+`.
    if on.kind != Kind::Seaweedfs {
        names.push("a+b");
    }
    for name in &names {
        on.put(&on.key(name), b"abc").await;
        assert!(on.objects().head(&on.key(name)).await.unwrap().is_some(), "{name}");
    }
    let request = ListRequest { prefix: on.prefix().to_owned(), ..ListRequest::default() };
    let page = on.objects().list(&request).await.unwrap();
    let mut listed: Vec<_> =
        page.objects.iter().map(|o| o.key.strip_prefix(on.prefix()).unwrap()).collect();
    listed.sort_unstable();
    names.sort_unstable();
    assert_eq!(listed, names);
}

pub async fn creating_a_bucket_again_is_nothing(on: &Subject) {
    on.objects().create_bucket().await.unwrap();
    on.objects().check_bucket().await.unwrap();
}
