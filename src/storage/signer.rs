//! Signs the requests that clients send to the store.
//!
//! Declared values are signed as headers, so the store enforces them. The caller passes the
//! returned headers to the client unchanged, because kinds of stores need different headers.
//! Headers that HTTP clients set on their own (host, content-length) are signed if the store
//! supports that, but never returned.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use chrono::TimeDelta;

use super::Source;
use crate::domain::checksum::Checksum;
use crate::domain::clock::Timestamp;
use crate::domain::limits::{MAX_KEY_LEN, MAX_PARTS};
use crate::domain::object_settings::ObjectSettings;

/// Why a request was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key cannot be part of a URL.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A value that cannot be sent in a header, or a metadata name that is not a header name.
    #[error("`{0}` can't be sent in a header, which may contain only printable ASCII")]
    Header(String),
    /// The part number is out of range.
    #[error("a part number must be from 1 to {MAX_PARTS}")]
    PartNumber,
    /// The lifetime is less than one second, or the credentials expire before that.
    #[error("a signed request must be valid for at least one second")]
    Expiry,
    /// The credential provider failed.
    #[error("there are no credentials for signing")]
    Credentials(#[source] Source),
    /// The credential provider returned expired credentials.
    #[error("the credentials for signing have expired")]
    CredentialsExpired,
    /// The store refuses the credentials, so the signed requests would not work.
    #[error("the store refuses the credentials: no URL is signed until it accepts them again")]
    CredentialsRefused,
    /// This kind of store does not support the request.
    #[error("this kind of store cannot presign {0}")]
    Unsupported(&'static str),
}

/// Why a key cannot be part of a signed URL.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// Empty or too long.
    #[error("a key must have 1 to {MAX_KEY_LEN} bytes")]
    Length,
    /// HTTP clients remove such segments before they send the request, so the signature would
    /// not match.
    #[error("a key in a URL must not have a segment `.` or `..`")]
    DotSegment,
}

impl KeyError {
    /// Checks that `key` can be part of a URL.
    pub fn check(key: &str) -> Result<(), Self> {
        if key.is_empty() || key.len() > MAX_KEY_LEN {
            return Err(Self::Length);
        }
        if key.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(Self::DotSegment);
        }
        Ok(())
    }
}

/// A PUT of a whole object with the values that the client declared.
#[derive(Debug, Default, Clone)]
pub struct PutRequest {
    /// The store refuses any other content type.
    pub content_type: Option<String>,
    /// In bytes. The store refuses any other length.
    pub content_length: Option<u64>,
    /// The store refuses other bytes if it checks this algorithm.
    pub checksum: Option<Checksum>,
    /// The store keeps an object that already exists and refuses the request.
    pub write_once: bool,
    /// Stored with the object. Names have no prefix.
    pub metadata: BTreeMap<String, String>,
    /// How the store keeps the object.
    pub object: ObjectSettings,
}

/// A download. If a header is `None`, the response has the value that was stored with the object.
#[derive(Debug, Default, Clone)]
pub struct GetRequest {
    /// The `Content-Disposition` of the response.
    pub content_disposition: Option<String>,
    /// The `Content-Type` of the response.
    pub content_type: Option<String>,
    /// The `Cache-Control` of the response.
    pub cache_control: Option<String>,
    /// The `Content-Language` of the response.
    pub content_language: Option<String>,
    /// The version to read, in a bucket with versioning.
    pub version_id: Option<String>,
}

/// An upload of one part.
#[derive(Debug, Default, Clone)]
pub struct PartRequest {
    /// In bytes.
    pub content_length: Option<u64>,
    /// Checksum of the part's bytes.
    pub checksum: Option<Checksum>,
}

/// A form upload, as a browser sends it without a script.
#[derive(Debug, Default, Clone)]
pub struct PostRequest {
    /// The form's `Content-Type` field must have this value. `None`: the form has no such field.
    pub content_type: Option<String>,
    /// The smallest and the largest size of the file in bytes, both included. `None`: the store
    /// accepts any size.
    pub size: Option<(u64, u64)>,
    /// Stored with the object. Names have no prefix.
    pub metadata: BTreeMap<String, String>,
    /// How the store keeps the object.
    pub object: ObjectSettings,
    /// Whether the store returns 201 and the address of the object as XML. Otherwise it returns
    /// 204, so that the browser does not leave a page with a plain form.
    pub with_location: bool,
}

/// A signed request. The client must send exactly these headers and no other header of the
/// store's own (`x-amz-*` and the like).
#[derive(Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// The HTTP method.
    pub method: &'static str,
    /// Contains the signature, so it must not be logged.
    pub url: String,
    /// Names in lower case. Never host or content-length.
    pub headers: BTreeMap<String, String>,
    /// The fields of a form upload, to be sent in this order before the file. They contain the
    /// signature.
    pub fields: Option<Vec<(String, String)>>,
    /// When the store stops accepting the request. Can be earlier than requested.
    pub expires_at: Timestamp,
}

impl fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unsigned = self.url.split_once('?').map_or(self.url.as_str(), |(url, _)| url);
        f.debug_struct("SignedRequest")
            .field("method", &self.method)
            .field("url", &unsigned)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// What a signed request does.
#[derive(Debug, Clone, Copy)]
pub enum Operation<'a> {
    /// A PUT of a whole object.
    Put(&'a PutRequest),
    /// A download.
    Get(&'a GetRequest),
    /// A form upload.
    Post(&'a PostRequest),
    /// The start of a multipart upload. Length, checksum and write-once of the request belong to
    /// the parts and to the completion, so they are not signed here.
    CreateMultipart(&'a PutRequest),
    /// One part of a multipart upload.
    UploadPart {
        /// The store's id of the multipart upload.
        upload_id: &'a str,
        /// From 1.
        number: u16,
        /// The part.
        request: &'a PartRequest,
    },
    /// A list of the stored parts, in the store's own format.
    ListParts {
        /// The store's id of the multipart upload.
        upload_id: &'a str,
    },
    /// The completion of a multipart upload. The client sends the list of parts in the store's own
    /// format.
    CompleteMultipart {
        /// The store's id of the multipart upload.
        upload_id: &'a str,
        /// Whether the completion fails if the object already exists.
        write_once: bool,
    },
    /// The abort of a multipart upload.
    AbortMultipart {
        /// The store's id of the multipart upload.
        upload_id: &'a str,
    },
}

type Signed<'a> = Pin<Box<dyn Future<Output = Result<SignedRequest, SignError>> + Send + 'a>>;

/// Signs requests for one bucket at its public endpoint.
#[async_trait]
pub trait Signer: Send + Sync + fmt::Debug {
    /// The URL of the bucket itself. Forms are posted to it.
    fn bucket_url(&self) -> String;

    /// Signs a request. `now` is the current time. A store may shorten the lifetime (see
    /// [`SignedRequest::expires_at`]). Operations that a kind of store does not have are
    /// [`SignError::Unsupported`].
    async fn sign(
        &self,
        key: &str,
        operation: Operation<'_>,
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Result<SignedRequest, SignError>;

    /// Signs a PUT of a whole object.
    fn put<'a>(
        &'a self,
        key: &'a str,
        request: &'a PutRequest,
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Signed<'a> {
        self.sign(key, Operation::Put(request), now, expires_in)
    }

    /// Signs a download.
    fn get<'a>(
        &'a self,
        key: &'a str,
        request: &'a GetRequest,
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Signed<'a> {
        self.sign(key, Operation::Get(request), now, expires_in)
    }

    /// Signs a form upload.
    fn post<'a>(
        &'a self,
        key: &'a str,
        request: &'a PostRequest,
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Signed<'a> {
        self.sign(key, Operation::Post(request), now, expires_in)
    }
}
