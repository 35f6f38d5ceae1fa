//! The calls of a bucket, and their arguments and results.

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::Stream;

use super::error::{Result, StoreError};
use crate::domain::checksum::Checksum;
use crate::domain::clock::Timestamp;
use crate::domain::object_settings::ObjectSettings;
use crate::domain::reconcile::Listed;

/// An object's bytes as a stream.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// The response of HEAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The ETag, without quotes.
    pub etag: String,
    /// The id of the version, in a bucket with versioning.
    pub version_id: Option<String>,
    /// The size in bytes.
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
    /// Whether the object has a retention (object lock), so that it cannot be deleted before the
    /// retention ends.
    pub locked: bool,
    /// When it was stored, by the store's clock.
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
    /// Settings that the store keeps with the object, for example encryption and storage class.
    pub object: ObjectSettings,
    /// The expected checksum. The store checks it if it supports the algorithm.
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
    /// [`Capabilities::checked_parts`](super::Capabilities::checked_parts).
    Checksum,
}

/// The result of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The ETag, without quotes.
    pub etag: String,
    /// The id of the version, in a bucket with versioning.
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
    /// The ETag, without quotes.
    pub etag: String,
    /// The size in bytes.
    pub size: u64,
    /// When it was stored, by the store's clock.
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
    /// When it was created, by the store's clock.
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
    /// Uses batches if the store has them
    /// ([`Capabilities::batch_delete`](super::Capabilities::batch_delete)); the default deletes one
    /// object at a time.
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
    /// so if [`Capabilities::multipart_checksums`](super::Capabilities::multipart_checksums)
    /// contains the algorithm, or with
    /// [`Capabilities::checked_parts`](super::Capabilities::checked_parts) and
    /// [`PartIntegrity::Checksum`]. `if_none_match` belongs to [`Self::complete_multipart`].
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
    /// another bucket if both have the same text. `None` if it cannot copy objects.
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
