//! Why a call to a store failed.

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
    /// The multipart upload does not exist: it was completed or aborted.
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
