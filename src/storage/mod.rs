//! The seam to object stores: a small trait, named error kinds, and what stores differ in
//! as data ([`Capabilities`]).
//!
//! To add a store: implement [`ObjectStore`], run the contract suite of
//! `src/tests/storage/contract.rs` against it, and build it in `cli::adapters`. A store that
//! speaks S3 needs no code: name it in `src/tests/storage/servers.rs`, so that the suite runs
//! against a real one, and let [`probe`] say what it enforces.
//!
//! The suite is among the tests, not here as `contract.rs`, because it is only test code.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;

use crate::domain::checksum::{Algorithm, Checksum};
use crate::domain::clock::Timestamp;
use crate::domain::reconcile::Listed;

pub mod capabilities;
pub mod memory;
pub mod metered;
pub mod presign;
pub mod probe;
pub mod queue;
pub mod s3;

pub use capabilities::Capabilities;
pub use presign::Presigner;

/// The most keys that one listing page holds, and that one batch delete takes (S3 API
/// reference, `ListObjectsV2` and `DeleteObjects`).
pub const MAX_PAGE: usize = 1000;

/// Why a call to the store failed. A missing object is no error but `None`.
///
/// A retried conditional write can meet its own first attempt, whose answer was lost: then
/// the caller sees [`StoreError::PreconditionFailed`] (or, on a completion,
/// [`StoreError::NoSuchMultipart`]) and asks HEAD whose bytes are there.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A precondition (`If-Match`, `If-None-Match`) did not hold.
    #[error("the object is not the one expected")]
    PreconditionFailed,
    /// No such multipart upload: finished or aborted.
    #[error("the multipart upload does not exist")]
    NoSuchMultipart,
    /// The bucket does not exist.
    #[error("the bucket does not exist")]
    NoSuchBucket,
    /// The credentials are wrong or lack a permission.
    #[error("the store refused access")]
    AccessDenied(#[source] Source),
    /// The store calls the request wrong: a checksum that does not match, a bad part.
    #[error("the store refused the request ({code})")]
    Refused {
        /// S3's error code, for example `BadDigest`; `HTTP 400` where it gave none.
        code: String,
        /// The client library's error.
        #[source]
        source: Source,
    },
    /// Down, slow or throttling, after the client's own retries. Worth trying later.
    #[error("the store is unavailable")]
    Unavailable(#[source] Source),
    /// The answer makes no sense: a listing that descends, a missing ETag.
    #[error("the store's answer breaks the protocol: {0}")]
    Protocol(String),
    /// The body that was to be sent failed on the way.
    #[error("the body ended early")]
    Body(#[source] Source),
}

/// What stands behind an error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// A result of a store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// An object's bytes as they come.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// What HEAD tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Without quotes.
    pub etag: String,
    /// In a bucket that keeps versions.
    pub version_id: Option<String>,
    /// In bytes.
    pub size: u64,
    /// As it was stored.
    pub content_type: Option<String>,
    /// Checksums of the whole object that the store keeps; composites are left out.
    pub checksums: Vec<Checksum>,
    /// Encrypted with a key of a key service's or of the client's: the ETag is then no
    /// digest of the bytes (S3 API reference, "Object": `ETag`).
    pub keyed: bool,
    /// By the store's clock.
    pub last_modified: Option<Timestamp>,
    /// The client's own pairs (`x-amz-meta-*`).
    pub metadata: BTreeMap<String, String>,
}

/// What a write says of the object.
#[derive(Debug, Default, Clone)]
pub struct PutOptions {
    /// Stored with the object.
    pub content_type: Option<String>,
    /// Stored with the object.
    pub metadata: BTreeMap<String, String>,
    /// Checked by the store where it can.
    pub checksum: Option<Checksum>,
    /// Fail with [`StoreError::PreconditionFailed`] where an object is there already.
    pub if_none_match: bool,
}

/// What vouches for the bytes of a part on their way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouched {
    /// The request's signature, which covers their SHA-256.
    BySignature,
    /// Their CRC-64/NVME in a signed header; the bytes themselves are left out of the signature
    /// (`UNSIGNED-PAYLOAD`, as in presigned URLs), which spares a hash here and in the store. For
    /// uploads that were begun with this algorithm, where [`Capabilities::checked_parts`].
    ByChecksum,
}

/// What a write gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Without quotes.
    pub etag: String,
    /// In a bucket that keeps versions.
    pub version_id: Option<String>,
}

/// Which page of a listing.
#[derive(Debug, Default, Clone)]
pub struct ListRequest {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Only keys greater than this; to begin or to resume.
    pub start_after: Option<String>,
    /// Where the page before ended; within one listing.
    pub token: Option<String>,
    /// At most so many keys; 0 is [`MAX_PAGE`], which is also the most.
    pub limit: usize,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// The objects, in the store's order.
    pub objects: Vec<Listed>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// One uploaded part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From 1 to 10,000.
    pub number: u16,
    /// Without quotes.
    pub etag: String,
    /// In bytes.
    pub size: u64,
    /// By the store's clock.
    pub last_modified: Option<Timestamp>,
    /// That it was sent with ([`Vouched::ByChecksum`]): the completion has to name it again.
    pub checksum: Option<Checksum>,
}

/// An unfinished multipart upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenMultipart {
    /// The key that it is for.
    pub key: String,
    /// The store's id of it.
    pub upload_id: String,
    /// By the store's clock.
    pub initiated: Option<Timestamp>,
}

/// A bucket of an object store. All calls are bounded in time and retried with back-off
/// by the implementation; none holds more than a page or a part in memory.
#[async_trait]
pub trait ObjectStore: Send + Sync {
    /// What is known of an object; `None` where there is none. A HEAD answer has no body, so
    /// a missing bucket looks like a missing object: what believes in absence asks
    /// [`Self::check_bucket`] or for the marker object as well.
    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>>;

    /// Bytes `range` of an object, fewer where it ends before. `if_match` is an ETag
    /// without quotes. An empty object or a range behind the end gives no bytes; an empty
    /// range gives none without asking the store; a missing object is
    /// [`StoreError::PreconditionFailed`].
    async fn read(&self, key: &str, range: Range<u64>, if_match: &str) -> Result<Bytes>;

    /// The whole object as a stream; `if_match` as in [`Self::read`].
    async fn read_all(&self, key: &str, if_match: &str) -> Result<ByteStream>;

    /// Writes an object whose bytes are at hand.
    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written>;

    /// Deletes an object; one that is not there is deleted already.
    async fn delete(&self, key: &str) -> Result<()>;

    /// Deletes many objects; gives those that could not be deleted. In batches of
    /// [`MAX_PAGE`] where the store can ([`Capabilities::batch_delete`]); this way one by one.
    async fn delete_batch(&self, keys: &[String]) -> Result<Vec<(String, StoreError)>> {
        let mut failed = Vec::new();
        for key in keys {
            if let Err(error) = self.delete(key).await {
                failed.push((key.clone(), error));
            }
        }
        Ok(failed)
    }

    /// One page of keys.
    async fn list(&self, request: &ListRequest) -> Result<ListPage>;

    /// Begins a multipart upload and gives the store's id of it. Of `options.checksum` only
    /// the algorithm counts: the store is to keep that of the whole object, which it does
    /// where [`Capabilities::multipart_checksums`] has it, or [`Capabilities::checked_parts`] with
    /// [`Vouched::ByChecksum`]. `if_none_match` belongs to [`Self::complete_multipart`].
    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<String>;

    /// Writes one part; the body is sent as it is, without a copy.
    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u16,
        body: Bytes,
        vouched: Vouched,
    ) -> Result<Part>;

    /// The parts the store holds, ascending by number, each number once (its newest).
    /// [`StoreError::Protocol`] where a store lists several and the newest can't be told.
    async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Vec<Part>>;

    /// Makes the object from exactly these parts, ascending by number.
    async fn complete_multipart(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
        if_none_match: bool,
    ) -> Result<Written>;

    /// Throws the parts away; a multipart upload that is not there is aborted already.
    async fn abort_multipart(&self, key: &str, upload_id: &str) -> Result<()>;

    /// A page of unfinished multipart uploads below a prefix, and where the next begins.
    async fn list_multiparts(
        &self,
        prefix: &str,
        marker: Option<&str>,
    ) -> Result<(Vec<OpenMultipart>, Option<String>)>;

    /// Whether the bucket is there and may be used.
    async fn check_bucket(&self) -> Result<()>;

    /// Creates the bucket where it is not there.
    async fn create_bucket(&self) -> Result<()>;
}

/// A configured store: what the service talks through, what it signs with, what it can do.
#[derive(Clone)]
pub struct Store {
    /// Its name: `[storage.<name>]`.
    pub name: String,
    /// The bucket's name.
    pub bucket: String,
    /// The service's own way to the bucket.
    pub objects: Arc<dyn ObjectStore>,
    /// Signs requests for clients, on the public endpoint.
    pub presigner: Arc<Presigner>,
    /// What it enforces and returns.
    pub capabilities: Arc<Capabilities>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("name", &self.name)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Whether a declared checksum of this kind is on record after a single PUT.
    pub fn keeps_checksum(&self, algorithm: Algorithm) -> bool {
        self.capabilities.returns_checksum(algorithm)
    }

    /// Whether the checksum of a whole object made of parts is on record.
    pub fn keeps_checksum_of_parts(&self, algorithm: Algorithm) -> bool {
        self.capabilities.multipart_checksums.contains(&algorithm)
    }
}
