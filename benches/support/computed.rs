//! A bucket whose listing is computed, so that it needs no memory for any number of objects.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use upload_coordinator::domain::clock::SystemClock;
use upload_coordinator::domain::limits::MAX_PAGE;
use upload_coordinator::domain::reconcile::Listed;
use upload_coordinator::storage::memory::MemoryStore;
use upload_coordinator::storage::s3::TargetError;
use upload_coordinator::storage::{
    ByteStream, ListPage, ListRequest, ObjectMeta, ObjectStore, OpenMultipart, Part, PartIntegrity,
    PutOptions, Result, Store, Written,
};
use uuid::Uuid;

/// The ETag of every object.
pub const ETAG: &str = "9b2cf535f27731c974343645a3985328";
/// The size of every object, in bytes.
pub const SIZE: u64 = 1024;

const SHARDS: u64 = 16;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Objects that are evenly spread over a period and over the shards. The marker and other written
/// objects are stored separately.
pub struct Computed {
    prefix: String,
    /// The number of objects in each shard.
    per_shard: u64,
    begin: DateTime<Utc>,
    span: TimeDelta,
    others: Arc<MemoryStore>,
}

impl Computed {
    pub fn new(prefix: &str, objects: u64, begin: DateTime<Utc>, span: TimeDelta) -> Self {
        let others = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        Self { prefix: prefix.to_owned(), per_shard: objects / SHARDS, begin, span, others }
    }

    /// How many objects there are.
    pub fn len(&self) -> u64 {
        self.per_shard * SHARDS
    }

    /// When the object at this index of the listing was stored.
    pub fn stored_at(&self, position: u64) -> DateTime<Utc> {
        let (shard, nth) = (position / self.per_shard, position % self.per_shard);
        let (number, count) = ((nth * SHARDS + shard + 1).cast_signed(), self.len().cast_signed());
        self.begin + TimeDelta::milliseconds(self.span.num_milliseconds() * number / count)
    }

    /// The id of the object at this index: a UUID of version 7. Its last digit is that of the
    /// shard.
    pub fn id(&self, position: u64) -> Uuid {
        id_of(self.stored_at(position), position, position / self.per_shard)
    }

    /// The key at this index of the listing. Keys ascend with the index.
    pub fn key(&self, position: u64) -> String {
        key_of(&self.prefix, self.id(position))
    }

    /// The first index whose key is greater than `key`.
    fn after(&self, key: &str) -> u64 {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = u64::midpoint(low, high);
            if self.key(middle).as_str() > key { high = middle } else { low = middle + 1 }
        }
        low
    }

    pub fn store(self: Arc<Self>) -> std::result::Result<Store, TargetError> {
        let store = self.others.clone().store("default", None)?;
        Ok(Store { objects: self, ..store })
    }
}

/// A UUID of version 7 with some bits of `noise` and with this last digit.
pub fn id_of(at: DateTime<Utc>, noise: u64, shard: u64) -> Uuid {
    let mixed = noise.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let random = u128::from(mixed) << 4 | u128::from(shard & 0xf);
    let millis = at.timestamp_millis().unsigned_abs();
    let mut bytes = random.to_be_bytes();
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    uuid::Builder::from_bytes(bytes)
        .with_version(uuid::Version::SortRand)
        .with_variant(uuid::Variant::RFC4122)
        .into_uuid()
}

/// A key in the format of the service.
pub fn key_of(prefix: &str, id: Uuid) -> String {
    let digit = HEX[usize::from(id.as_bytes()[15] & 0xf)];
    format!("{prefix}{}/{}", char::from(digit), id.hyphenated())
}

#[async_trait]
impl ObjectStore for Computed {
    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        let begin = match (&request.token, &request.start_after) {
            (Some(token), _) => token.parse().unwrap_or_default(),
            (None, Some(key)) => self.after(key),
            (None, None) => 0,
        };
        let limit = if request.limit == 0 { MAX_PAGE } else { request.limit };
        let end = (begin + limit as u64).min(self.len());
        let objects = (begin..end).map(|position| Listed {
            key: self.key(position),
            etag: ETAG.to_owned(),
            size: SIZE,
            last_modified: Some(self.stored_at(position)),
        });
        Ok(ListPage {
            objects: objects.collect(),
            next: (end < self.len()).then(|| end.to_string()),
        })
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>> {
        self.others.head(key).await
    }

    async fn head_version(&self, _: &str, _: &str) -> Result<Option<ObjectMeta>> {
        Ok(None)
    }

    async fn read(&self, key: &str, range: std::ops::Range<u64>, if_match: &str) -> Result<Bytes> {
        self.others.read(key, range, if_match).await
    }
    async fn read_all(&self, key: &str, if_match: &str) -> Result<ByteStream> {
        self.others.read_all(key, if_match).await
    }
    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        self.others.put(key, body, options).await
    }
    async fn delete(&self, key: &str) -> Result<()> {
        self.others.delete(key).await
    }
    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<String> {
        self.others.create_multipart(key, options).await
    }
    async fn upload_part(
        &self,
        key: &str,
        id: &str,
        number: u16,
        body: Bytes,
        integrity: PartIntegrity,
    ) -> Result<Part> {
        self.others.upload_part(key, id, number, body, integrity).await
    }
    async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Vec<Part>> {
        self.others.list_parts(key, upload_id).await
    }
    async fn complete_multipart(
        &self,
        key: &str,
        id: &str,
        parts: &[Part],
        if_none_match: bool,
    ) -> Result<Written> {
        self.others.complete_multipart(key, id, parts, if_none_match).await
    }
    async fn abort_multipart(&self, key: &str, upload_id: &str) -> Result<()> {
        self.others.abort_multipart(key, upload_id).await
    }
    async fn list_multiparts(
        &self,
        prefix: &str,
        marker: Option<&str>,
    ) -> Result<(Vec<OpenMultipart>, Option<String>)> {
        self.others.list_multiparts(prefix, marker).await
    }
    async fn check_bucket(&self) -> Result<()> {
        Ok(())
    }
    async fn create_bucket(&self) -> Result<()> {
        Ok(())
    }
}
