//! The interface to object stores: the traits [`ObjectStore`] and [`Signer`], named errors, and
//! the differences between stores as data ([`Capabilities`]).
//!
//! To add an S3-compatible store: no code is needed. Name it in `src/tests/storage/servers.rs`, so
//! that the contract suite (`src/tests/storage/store_contract`) runs against a real server; the
//! probe finds out what it enforces.
//!
//! To add another kind of store: see [`backend`]. Then run the contract suite against it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::Stream;

use crate::domain::checksum::{Algorithm, Checksum};
use crate::domain::clock::Timestamp;
use crate::domain::object_settings::ObjectSettings;
use crate::domain::reconcile::Listed;

pub mod azure;
pub mod backend;
pub mod capabilities;
pub mod cause;
pub mod credentials;
pub mod memory;
pub mod metered;
pub mod probe;
pub mod queue;
pub mod s3;
pub mod signer;
pub mod transfer;

pub use backend::Backend;
pub use capabilities::Capabilities;
pub use signer::{SignError, SignedRequest, Signer};

/// Why a call to the store failed. A missing object is `None`, not an error.
///
/// A retried conditional write can find the object of its own first attempt, if the response was
/// lost. The caller then gets [`StoreError::PreconditionFailed`] (or, on a completion,
/// [`StoreError::NoSuchMultipart`]) and must compare the stored object by HEAD.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A precondition (`If-Match`, `If-None-Match`) did not hold.
    #[error("the object does not meet the condition of the request (If-Match or If-None-Match)")]
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
    /// The store refused the request as invalid, for example because of a wrong checksum.
    #[error("the store refused the request ({code})")]
    Refused {
        /// The store's error code, for example `BadDigest`; `HTTP 400` if there is none.
        code: String,
        /// The client library's error.
        #[source]
        source: Source,
    },
    /// The store is down, slow or throttles requests, even after the client's own retries. The
    /// caller can retry later.
    #[error("the store is unavailable")]
    Unavailable(#[source] Source),
    /// The store's disk is full.
    #[error("the store is full")]
    Full(#[source] Source),
    /// The response is invalid, for example a descending listing or a missing ETag.
    #[error("the store's response violates the protocol: {0}")]
    Protocol(String),
    /// The body stream of the request failed.
    #[error("the body ended early")]
    Body(#[source] Source),
}

/// The cause of an error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// A result of a store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// An object's bytes as a stream.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// The response of HEAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Without quotes.
    pub etag: String,
    /// In a bucket with versioning.
    pub version_id: Option<String>,
    /// In bytes.
    pub size: u64,
    /// The Content-Type stored with the object.
    pub content_type: Option<String>,
    /// The Content-Encoding stored with the object.
    pub content_encoding: Option<String>,
    /// Checksums of the whole object that the store keeps, without composite checksums.
    pub checksums: Vec<Checksum>,
    /// Whether it is encrypted with a customer or KMS key. In that case the ETag is not a digest of
    /// the bytes (S3 API reference, "Object": `ETag`).
    pub keyed: bool,
    /// The name of the server-side encryption, for example `AES256` or `aws:kms`.
    pub sse: Option<String>,
    /// The object has a retention (object lock), so it cannot be deleted before the retention ends.
    pub locked: bool,
    /// By the store's clock.
    pub last_modified: Option<Timestamp>,
    /// User-defined metadata (`x-amz-meta-*`).
    pub metadata: BTreeMap<String, String>,
}

/// Options of a write.
#[derive(Debug, Default, Clone)]
pub struct PutOptions {
    /// Stored with the object.
    pub content_type: Option<String>,
    /// Stored with the object.
    pub content_encoding: Option<String>,
    /// Stored with the object.
    pub metadata: BTreeMap<String, String>,
    /// How the store keeps the object.
    pub object: ObjectSettings,
    /// Checked by the store if it can.
    pub checksum: Option<Checksum>,
    /// Fail with [`StoreError::PreconditionFailed`] if the object exists.
    pub if_none_match: bool,
    /// Fail with [`StoreError::PreconditionFailed`] unless the object has this ETag, which is
    /// without quotes. A store may refuse the condition ([`StoreError::Refused`]) or ignore it.
    /// Only for [`ObjectStore::put`].
    pub if_match: Option<String>,
}

/// How the bytes of a part are protected on their way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartIntegrity {
    /// By the request's signature, which covers their SHA-256.
    Signature,
    /// By their CRC-64/NVME in a signed header. The signature does not cover the bytes
    /// (`UNSIGNED-PAYLOAD`, as in presigned URLs), so neither the service nor the store must
    /// compute another hash. For uploads created with this algorithm, if
    /// [`Capabilities::checked_parts`].
    Checksum,
}

/// The result of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Without quotes.
    pub etag: String,
    /// In a bucket with versioning.
    pub version_id: Option<String>,
}

/// The request for one page of a listing.
#[derive(Debug, Default, Clone)]
pub struct ListRequest {
    /// Only keys with this prefix.
    pub prefix: String,
    /// Only keys greater than this, to start or resume a listing.
    pub start_after: Option<String>,
    /// The continuation token of the previous page.
    pub token: Option<String>,
    /// The largest number of keys to return. 0 means [`MAX_PAGE`](crate::domain::limits::MAX_PAGE),
    /// the maximum.
    pub limit: usize,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// Objects in the store's order.
    pub objects: Vec<Listed>,
    /// The continuation token of the next page; `None` at the end.
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
    /// The checksum that the part was sent with ([`PartIntegrity::Checksum`]). The completion must
    /// repeat it.
    pub checksum: Option<Checksum>,
}

/// An unfinished multipart upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenMultipart {
    /// The key of the future object.
    pub key: String,
    /// The store's id of the multipart upload.
    pub upload_id: String,
    /// By the store's clock.
    pub initiated: Option<Timestamp>,
}

/// An object to copy within a server.
#[derive(Debug, Clone, Copy)]
pub struct CopySource<'a> {
    /// Its bucket.
    pub bucket: &'a str,
    /// Its key.
    pub key: &'a str,
    /// Its ETag, without quotes. If the object has another one, the copy is
    /// [`StoreError::PreconditionFailed`].
    pub etag: &'a str,
}

/// A bucket of an object store. The implementation limits the duration of each call and retries
/// with backoff. No call holds more than a page or a part in memory.
#[async_trait]
pub trait ObjectStore: Send + Sync {
    /// The object's metadata; `None` if it does not exist. A HEAD response has no body, so a
    /// missing bucket looks like a missing object: callers that act on absence must also call
    /// [`Self::check_bucket`] or read the marker object.
    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>>;

    /// The metadata of one version of an object; `None` if the bucket does not have that version.
    async fn head_version(&self, key: &str, version_id: &str) -> Result<Option<ObjectMeta>>;

    /// Reads the bytes `range` of an object, fewer if it ends earlier. `if_match` is an ETag
    /// without quotes. Returns no bytes for an empty object or a range after the end; an empty
    /// range causes no request. A missing object is [`StoreError::PreconditionFailed`].
    async fn read(&self, key: &str, range: Range<u64>, if_match: &str) -> Result<Bytes>;

    /// Reads the whole object as a stream. `if_match` as in [`Self::read`].
    async fn read_all(&self, key: &str, if_match: &str) -> Result<ByteStream>;

    /// Writes an object from memory.
    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written>;

    /// Deletes an object with all its versions, so that the bucket has none of its bytes any more.
    /// Succeeds if it does not exist. Returns an error if versions are left.
    async fn delete(&self, key: &str) -> Result<()>;

    /// Deletes many objects, without their versions, and returns those that could not be deleted.
    /// Uses batches if the store
    /// has them ([`Capabilities::batch_delete`]); the default deletes one object at a time.
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

    /// Creates a multipart upload and returns the store's id of it. Only the algorithm of
    /// `options.checksum` is used: the store should keep the checksum of the whole object. It does
    /// so if [`Capabilities::multipart_checksums`] contains the algorithm, or with
    /// [`Capabilities::checked_parts`] and [`PartIntegrity::Checksum`]. `if_none_match` belongs to
    /// [`Self::complete_multipart`].
    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<String>;

    /// Writes one part. The body is not copied.
    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u16,
        body: Bytes,
        integrity: PartIntegrity,
    ) -> Result<Part>;

    /// Lists the stored parts, ascending by number, each number once (the newest part). Returns
    /// [`StoreError::Protocol`] if a store lists a number twice and the newest is unknown.
    async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Vec<Part>>;

    /// Creates the object from exactly these parts, ascending by number.
    async fn complete_multipart(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
        if_none_match: bool,
    ) -> Result<Written>;

    /// The server and the account of the bucket, as an opaque text. A bucket can copy objects from
    /// another bucket if both have the same text. `None`: it copies nothing.
    fn copy_domain(&self) -> Option<&str> {
        None
    }

    /// Copies an object of up to [`MAX_PUT_SIZE`](crate::domain::limits::MAX_PUT_SIZE) within the
    /// server, with the content type, the metadata and the settings of `options`. Only for a source
    /// with the same [`Self::copy_domain`].
    async fn copy(
        &self,
        _source: &CopySource<'_>,
        _key: &str,
        _options: &PutOptions,
    ) -> Result<Written> {
        Err(no_copies())
    }

    /// Copies the bytes `range` of an object as a part of a multipart upload, as [`Self::copy`].
    async fn copy_part(
        &self,
        _source: &CopySource<'_>,
        _range: Range<u64>,
        _key: &str,
        _upload_id: &str,
        _number: u16,
    ) -> Result<Part> {
        Err(no_copies())
    }

    /// Deletes the parts. Succeeds if the multipart upload does not exist.
    async fn abort_multipart(&self, key: &str, upload_id: &str) -> Result<()>;

    /// Lists a page of unfinished multipart uploads below a prefix, and returns the marker of the
    /// next page.
    async fn list_multiparts(
        &self,
        prefix: &str,
        marker: Option<&str>,
    ) -> Result<(Vec<OpenMultipart>, Option<String>)>;

    /// Checks that the bucket exists and can be used.
    async fn check_bucket(&self) -> Result<()>;

    /// Creates the bucket if it does not exist.
    async fn create_bucket(&self) -> Result<()>;

    /// Whether a write failed within the last minute because the store was full, and no later write
    /// succeeded.
    fn is_full(&self) -> bool {
        false
    }

    /// The store's clock minus this machine's, by the newest response. `None` if unknown.
    fn clock_offset(&self) -> Option<TimeDelta> {
        None
    }
}

fn no_copies() -> StoreError {
    let source = "the store copies no objects".into();
    StoreError::Refused { code: "NotImplemented".to_owned(), source }
}

/// A configured store: its bucket, its signer and its capabilities.
#[derive(Clone)]
pub struct Store {
    /// Its name: `[storage.<name>]`.
    pub name: String,
    /// The bucket's name.
    pub bucket: String,
    /// The bucket at the internal endpoint.
    pub objects: Arc<dyn ObjectStore>,
    /// Signs requests for clients, on the public endpoint.
    pub signer: Arc<dyn Signer>,
    /// What the store enforces and returns.
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
    /// Whether HEAD returns a checksum of this algorithm after a single PUT.
    pub fn keeps_checksum(&self, algorithm: Algorithm) -> bool {
        self.capabilities.returns_checksum(algorithm)
    }

    /// The checksums of an object that its metadata contains: those that the store keeps, and the
    /// MD5 if the store's ETags are known to be MD5s.
    pub fn checksums_of(&self, meta: &ObjectMeta) -> Vec<Checksum> {
        let has_md5 = self.capabilities.etag_md5 && !meta.keyed;
        let md5 = Checksum::parse_md5_hex(&meta.etag).filter(|_| has_md5);
        md5.into_iter().chain(meta.checksums.iter().cloned()).collect()
    }

    /// Whether HEAD returns the checksum of a whole object made of parts.
    pub fn keeps_checksum_of_parts(&self, algorithm: Algorithm) -> bool {
        self.capabilities.multipart_checksums.contains(&algorithm)
    }
}
