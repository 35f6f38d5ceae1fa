use chrono::TimeDelta;

use super::*;
use crate::domain::clock::ManualClock;

fn memory() -> (Arc<ManualClock>, Arc<MemoryStore>) {
    let clock = Arc::new(ManualClock::new("2026-11-23T10:00:00.5Z".parse().unwrap()));
    (clock.clone(), Arc::new(MemoryStore::new(clock)))
}

async fn put(store: &MemoryStore, key: &str) {
    store.put(key, Bytes::from_static(b"abc"), &PutOptions::default()).await.unwrap();
}

fn keys(page: &ListPage) -> Vec<&str> {
    page.objects.iter().map(|object| object.key.as_str()).collect()
}

#[tokio::test]
async fn objects_are_dated_by_the_clock_that_was_given() {
    let (clock, store) = memory();
    clock.advance(TimeDelta::hours(1));
    put(&store, "k").await;
    let meta = store.head("k").await.unwrap().unwrap();
    assert_eq!(meta.last_modified, Some("2026-11-23T11:00:00Z".parse().unwrap()));
    assert_eq!(meta.etag, "900150983cd24fb0d6963f7d28e17f72");
}

#[tokio::test]
async fn planned_calls_fail_and_the_next_one_does_not() {
    let (_, store) = memory();
    store.fail_next(Operation::Put, 1, || StoreError::Unavailable("down".into()));
    let failed = store.put("k", Bytes::new(), &PutOptions::default()).await;
    assert!(matches!(failed, Err(StoreError::Unavailable(_))));
    assert!(store.keys().is_empty());
    put(&store, "k").await;
    assert_eq!(store.calls(Operation::Put), 2);
}

#[tokio::test]
async fn a_put_whose_response_is_lost_stores_the_object() {
    let (_, store) = memory();
    store.lose_next(Operation::Put, 1);
    let lost = store.put("k", Bytes::new(), &PutOptions::default()).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))));
    assert_eq!(store.keys(), ["k"]);
}

#[tokio::test]
async fn faulty_pages_repeat_descend_or_end_too_early() {
    let (_, store) = memory();
    for key in ["a", "b", "c"] {
        put(&store, key).await;
    }
    let first = ListRequest { limit: 2, ..ListRequest::default() };
    let second = ListRequest { token: Some("b".into()), ..first.clone() };
    store.spoil_lists([
        None,
        Some(ListFailure::Repeat),
        Some(ListFailure::CutOff),
        Some(ListFailure::Descend),
    ]);
    let good = store.list(&first).await.unwrap();
    assert_eq!((keys(&good), good.next.as_deref()), (vec!["a", "b"], Some("b")));
    assert_eq!(keys(&store.list(&second).await.unwrap()), ["a", "b"]);
    assert_eq!(store.list(&first).await.unwrap().next, None);
    assert_eq!(keys(&store.list(&first).await.unwrap()), ["b", "a"]);
    assert_eq!(keys(&store.list(&second).await.unwrap()), ["c"]);
}

#[tokio::test]
async fn a_gate_holds_calls_until_it_lets_them_through() {
    let (_, store) = memory();
    let gate = store.hold(Operation::Head);
    let held = tokio::spawn({
        let store = store.clone();
        async move { store.head("k").await.unwrap().is_some() }
    });
    gate.next_call().await;
    put(&store, "k").await;
    gate.let_through(1);
    assert!(held.await.unwrap(), "the held call sees what happened meanwhile");
    gate.open();
    assert!(store.head("k").await.unwrap().is_some());
}

#[tokio::test]
async fn a_missing_bucket_is_named_wherever_the_protocol_allows_it() {
    let (_, store) = memory();
    store.drop_bucket();
    assert!(matches!(store.check_bucket().await, Err(StoreError::NoSuchBucket)));
    assert!(store.head("k").await.unwrap().is_none());
    store.create_bucket().await.unwrap();
    put(&store, "k").await;
}

#[tokio::test]
async fn a_removed_version_makes_the_one_before_it_current() {
    let (_, store) = memory();
    store.keep_versions();
    put(&store, "k").await;
    store.put("k", Bytes::from_static(b"x"), &PutOptions::default()).await.unwrap();
    store.hide("k");
    assert!(store.head("k").await.unwrap().is_none());
    let versions = store.versions("k");
    assert!(store.head_version("k", &versions[2]).await.unwrap().is_none(), "a delete marker");
    store.remove_version("k", &versions[2]);
    store.remove_version("k", &versions[1]);
    let current = store.head("k").await.unwrap().unwrap();
    assert_eq!((current.version_id.as_ref(), current.size), (Some(&versions[0]), 3));
}
