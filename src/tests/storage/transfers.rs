//! Copies of objects between stores: over the network, within a server, and with failures.

use std::sync::Arc;

use bytes::Bytes;
use upload_coordinator::domain::checksum::{Algorithm, Checksum};
use upload_coordinator::domain::clock::SystemClock;
use upload_coordinator::domain::object_settings::ObjectSettings;
use upload_coordinator::storage::capabilities::Capabilities;
use upload_coordinator::storage::memory::{MemoryStore, Operation};
use upload_coordinator::storage::transfer::{
    Copied, Destination, Memory, Original, Sizes, TransferError, transfer,
};
use upload_coordinator::storage::{PutOptions, Store, StoreError};

use super::servers::Subject;

const MIB: u64 = 1 << 20;

/// Small sizes, so that tests need no large objects. S3 allows no smaller parts than 5 MiB.
const SIZES: Sizes = Sizes { copy: 6 * MIB, part: 5 * MIB, copied_part: 5 * MIB };

fn bytes(size: u64) -> Bytes {
    let words =
        (0..u32::try_from(size.div_ceil(4)).unwrap()).map(|n| n.wrapping_mul(2_654_435_761));
    let all: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    Bytes::from(all).slice(..usize::try_from(size).unwrap())
}

/// Stores an object with a content type and metadata.
async fn written(store: &Store, key: &str, body: Bytes) {
    let options = PutOptions {
        content_type: Some("audio/mpeg".into()),
        metadata: [("artist".to_owned(), "Nina Simone".to_owned())].into(),
        ..PutOptions::default()
    };
    store.objects.put(key, body, &options).await.unwrap();
}

/// Copies an object.
async fn copy(
    from: (&Store, &str),
    to: (&Store, &str),
    recorded: Option<&Checksum>,
    may_exist: bool,
) -> Result<Copied, TransferError> {
    let meta = from.0.objects.head(from.1).await.unwrap().unwrap();
    let original = Original { store: from.0, key: from.1, meta: &meta, recorded };
    let object = ObjectSettings::default();
    let destination = Destination { store: to.0, key: to.1, object: &object, may_exist };
    transfer(&original, &destination, &Memory::new(16 * MIB), &SIZES).await
}

/// Checks that both objects are equal.
async fn check_same(from: (&Store, &str), to: (&Store, &str), copied: &Copied) {
    let [before, after] = [from, to].map(async |(store, key)| {
        let meta = store.objects.head(key).await.unwrap().unwrap();
        let body = store.objects.read(key, 0..meta.size, &meta.etag).await.unwrap();
        (meta, body)
    });
    let (before, after) = (before.await, after.await);
    assert!(before.1 == after.1, "{} and {} bytes", before.1.len(), after.1.len());
    assert_eq!(Checksum::of(copied.checksum.algorithm(), &after.1), copied.checksum);
    assert_eq!(copied.meta.etag, after.0.etag);
    assert_eq!(after.0.content_type.as_deref(), Some("audio/mpeg"));
    assert_eq!(after.0.metadata, before.0.metadata);
}

fn memory_store() -> (Arc<MemoryStore>, Store) {
    let memory = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    (memory.clone(), memory.store("memory", None).unwrap())
}

/// The same store, but the service assumes these capabilities.
fn with(store: &Store, capabilities: Capabilities) -> Store {
    Store { capabilities: capabilities.into(), ..store.clone() }
}

#[tokio::test]
async fn objects_of_all_sizes_are_streamed_to_a_server_and_back() {
    let on = Subject::server().await;
    let (_, memory) = memory_store();
    for (n, size) in [0, 1, 5 * MIB, 5 * MIB + 1, 11 * MIB].into_iter().enumerate() {
        let (there, back) = (on.key(&n.to_string()), format!("back/{n}"));
        written(&memory, "first", bytes(size)).await;
        let recorded = Checksum::of(Algorithm::Sha256, &bytes(size));
        for recorded in [None, Some(&recorded)] {
            let (from, to) = ((&memory, "first"), (&on.store, there.as_str()));
            let copied = copy(from, to, recorded, n % 2 == 1).await.unwrap();
            check_same(from, to, &copied).await;
            let (from, to) = (to, (&memory, back.as_str()));
            let copied = copy(from, to, recorded, false).await.unwrap();
            check_same(from, to, &copied).await;
        }
    }
    on.clean_up().await;
}

#[tokio::test]
async fn a_store_that_keeps_no_checksum_is_read_back() {
    let (source, from) = memory_store();
    let (target, to) = memory_store();
    let to = with(&to, Capabilities::conservative());
    for size in [900, 11 * MIB] {
        written(&from, "a", bytes(size)).await;
        let reads = target.calls(Operation::Read);
        let copied = copy((&from, "a"), (&to, "b"), None, false).await.unwrap();
        check_same((&from, "a"), (&to, "b"), &copied).await;
        assert!(target.calls(Operation::Read) > reads + 1, "read back, and by this test");
    }
    // If the source store returns no checksum, the bytes are hashed while they are copied. So the
    // source is read only once.
    let from = with(&from, Capabilities::conservative());
    written(&from, "a", bytes(900)).await;
    let reads = source.calls(Operation::Read);
    copy((&from, "a"), (&to, "b"), None, false).await.unwrap();
    assert_eq!(source.calls(Operation::Read), reads + 1);
}

#[tokio::test]
async fn a_server_copies_between_its_own_buckets() {
    let on = Subject::server().await;
    let Ok(own) = on.with_own_bucket().await else { return };
    for (n, size) in [0, 900, 7 * MIB, 11 * MIB].into_iter().enumerate() {
        let (key, copy_key) = (on.key(&format!("a b/{n}")), own.key(&format!("{n}")));
        written(&on.store, &key, bytes(size)).await;
        let (from, to) = ((&on.store, key.as_str()), (&own.store, copy_key.as_str()));
        let copied = copy(from, to, None, false).await.unwrap();
        check_same(from, to, &copied).await;
    }
    let (open, _) = own.objects().list_multiparts(own.prefix(), None).await.unwrap();
    assert_eq!(open, []);
    on.clean_up().await;
    own.clean_up().await;
}

#[tokio::test]
async fn an_object_that_changed_after_its_head_is_not_copied() {
    let on = Subject::server().await;
    let Ok(own) = on.with_own_bucket().await else { return };
    let (_, memory) = memory_store();
    for to in [&own.store, &memory] {
        for size in [900, 11 * MIB] {
            let key = on.key("object");
            written(&on.store, &key, bytes(size)).await;
            let meta = on.objects().head(&key).await.unwrap().unwrap();
            let object = ObjectSettings::default();
            let from = Original { store: &on.store, key: &key, meta: &meta, recorded: None };
            let to = Destination { store: to, key: "copy", object: &object, may_exist: false };
            let attempt =
                || async { transfer(&from, &to, &Memory::new(MIB), &SIZES).await.unwrap_err() };
            on.put(&key, b"other bytes").await;
            assert!(matches!(attempt().await, TransferError::Changed));
            on.objects().delete(&key).await.unwrap();
            assert!(matches!(attempt().await, TransferError::Changed));
            assert_eq!(to.store.objects.head("copy").await.unwrap(), None);
            let (open, _) = to.store.objects.list_multiparts("", None).await.unwrap();
            assert_eq!(open, []);
        }
    }
    on.clean_up().await;
    own.clean_up().await;
}

#[tokio::test]
async fn bytes_that_are_not_those_on_record_are_a_difference() {
    let (_, from) = memory_store();
    let (target, to) = memory_store();
    let recorded = Checksum::of(Algorithm::Crc32c, b"other bytes");
    for size in [900, 11 * MIB] {
        written(&from, "a", bytes(size)).await;
        let copied = copy((&from, "a"), (&to, "b"), Some(&recorded), false).await;
        assert!(matches!(copied, Err(TransferError::Differs(_))), "{copied:?}");
        assert_eq!(target.keys(), [""; 0], "nothing is left");
    }
}

#[tokio::test]
async fn a_lost_response_and_the_copy_of_an_earlier_attempt_are_recognised() {
    let (_, from) = memory_store();
    let (target, to) = memory_store();
    for (size, write) in [(900, Operation::Put), (11 * MIB, Operation::CompleteMultipart)] {
        written(&from, "a", bytes(size)).await;
        target.lose_next(write, 1);
        let lost = copy((&from, "a"), (&to, "b"), None, false).await;
        assert!(matches!(lost, Err(TransferError::Store(StoreError::Unavailable(_)))), "{lost:?}");
        // The store has written the object. The next attempt does not know this, and succeeds.
        let copied = copy((&from, "a"), (&to, "b"), None, false).await.unwrap();
        check_same((&from, "a"), (&to, "b"), &copied).await;
        let writes = target.calls(write);
        let copied = copy((&from, "a"), (&to, "b"), None, true).await.unwrap();
        assert!(copied.reused && target.calls(write) == writes);
        // Other bytes at the key are replaced.
        for may_exist in [false, true] {
            written(&to, "b", bytes(901)).await;
            let copied = copy((&from, "a"), (&to, "b"), None, may_exist).await.unwrap();
            check_same((&from, "a"), (&to, "b"), &copied).await;
        }
        target.fail_next(Operation::UploadPart, 1, || StoreError::Unavailable("down".into()));
        target.fail_next(Operation::Put, 1, || StoreError::Unavailable("down".into()));
        copy((&from, "a"), (&to, "c"), None, false).await.unwrap_err();
        assert_eq!(target.keys(), ["b"]);
        let (open, _) = to.objects.list_multiparts("", None).await.unwrap();
        assert_eq!(open, []);
        target.heal();
    }
}
