//! Signs what clients send to the store themselves: one [`Presigner`] for every kind of
//! request.
//!
//! What a client declares is signed as headers, so the store holds it to that. Host and
//! content-length are signed too, but never handed out: HTTP clients set them on their
//! own. Where nothing is declared only the host is signed, and a bare
//! `curl -T FILE URL` works.
//!
//! To add a kind of request: a method on [`Presigner`] that gathers its headers and query
//! parameters for `Presigner::sign`, a case in `oracle_tests.rs` against the AWS libraries, and
//! a promise in the contract suite, which tries it on real servers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use chrono::{SubsecRound as _, TimeDelta};

use crate::domain::checksum::Checksum;
use crate::domain::clock::Timestamp;

mod form;
mod keys;
mod sigv4;
mod target;

pub use form::PostTerms;
pub use target::{KeyError, Target, TargetError};

use keys::Keys;
use sigv4::{Request, header_value};

/// The longest that S3 honours a signature in a query (S3 user guide, "Download and upload
/// objects with presigned URLs").
pub const MAX_EXPIRY: TimeDelta = TimeDelta::days(7);

/// Parts are numbered from 1 to this (S3 user guide, "Multipart upload limits").
pub const MAX_PART_NUMBER: u16 = 10_000;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A key that can't be in a URL.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A value that can't be in a header, or a metadata name that can't be a header's.
    #[error("`{0}` can't be sent in a header: only printable ASCII can")]
    Header(String),
    /// Not from 1 to [`MAX_PART_NUMBER`].
    #[error("a part number is from 1 to {MAX_PART_NUMBER}")]
    PartNumber,
    /// Less than a second, or ended with the credentials.
    #[error("a signed request must be good for at least a second")]
    Expiry,
    /// The provider has no credentials.
    #[error("there are no credentials to sign with")]
    Credentials(#[source] CredentialsError),
    /// The provider gave credentials that have ended.
    #[error("the credentials to sign with have expired")]
    CredentialsExpired,
}

/// What a client declares of a whole object that it is going to PUT.
#[derive(Debug, Default, Clone)]
pub struct PutTerms {
    /// Signed: the store refuses another one.
    pub content_type: Option<String>,
    /// In bytes; signed: the store refuses another one.
    pub content_length: Option<u64>,
    /// Signed: the store refuses other bytes, where it checks.
    pub checksum: Option<Checksum>,
    /// Signs `If-None-Match: *`: an object that is there already stays.
    pub write_once: bool,
    /// Stored with the object, names without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
}

/// What a download answers with.
#[derive(Debug, Default, Clone)]
pub struct GetTerms {
    /// The answer's `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// The answer's `Content-Type`.
    pub content_type: Option<String>,
    /// A version in a bucket that keeps them.
    pub version_id: Option<String>,
}

/// What a client declares of one part.
#[derive(Debug, Default, Clone)]
pub struct PartTerms {
    /// In bytes.
    pub content_length: Option<u64>,
    /// Of the part's bytes.
    pub checksum: Option<Checksum>,
}

/// A signed request, to be sent just so: these headers and no other `x-amz-*`, the
/// content-length of the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed {
    /// The HTTP method.
    pub method: &'static str,
    /// Carries the signature, so it belongs into no log.
    pub url: String,
    /// Names in lower case; never host or content-length.
    pub headers: BTreeMap<String, String>,
    /// The fields of a form upload, to be sent in this order before the file; they carry
    /// the signature.
    pub fields: Option<Vec<(String, String)>>,
    /// When the store stops taking it: maybe sooner than was asked.
    pub expires_at: Timestamp,
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = self.url.split_once('?').map_or(self.url.as_str(), |(bare, _)| bare);
        f.debug_struct("Signed")
            .field("method", &self.method)
            .field("url", &bare)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Signs requests for one bucket at its public endpoint.
#[derive(Debug)]
pub struct Presigner {
    target: Target,
    keys: Keys,
}

type Headers<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

impl Presigner {
    /// A signer for `target` with whatever credentials the provider gives over time.
    pub fn new(target: Target, credentials: SharedCredentialsProvider) -> Self {
        let keys = Keys::new(credentials, target.region.clone());
        Self { target, keys }
    }

    /// Where the requests go.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// A PUT of a whole object.
    pub async fn put(
        &self,
        key: &str,
        terms: &PutTerms,
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Result<Signed, SignError> {
        let mut headers = described(terms.content_type.as_deref(), &terms.metadata)?;
        push_length(&mut headers, terms.content_length);
        push_checksum(&mut headers, terms.checksum.as_ref());
        if terms.write_once {
            headers.push(("if-none-match".into(), "*".into()));
        }
        self.sign("PUT", key, headers, &[], now, expires_in).await
    }

    /// A download.
    pub async fn get(
        &self,
        key: &str,
        terms: &GetTerms,
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Result<Signed, SignError> {
        let mut query = Vec::with_capacity(3);
        for (name, value) in [
            ("response-content-disposition", &terms.content_disposition),
            ("response-content-type", &terms.content_type),
            ("versionId", &terms.version_id),
        ] {
            query.extend(value.as_deref().map(|value| (name, value)));
        }
        self.sign("GET", key, Vec::new(), &query, now, expires_in).await
    }

    /// One part of a multipart upload.
    pub async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u16,
        terms: &PartTerms,
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Result<Signed, SignError> {
        if !(1..=MAX_PART_NUMBER).contains(&number) {
            return Err(SignError::PartNumber);
        }
        let mut headers = Vec::new();
        push_length(&mut headers, terms.content_length);
        push_checksum(&mut headers, terms.checksum.as_ref());
        let number = number.to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", upload_id)];
        self.sign("PUT", key, headers, &query, now, expires_in).await
    }

    /// The beginning of a multipart upload. Length, checksum and write-once of `terms`
    /// belong to the parts and to the completion; they are not signed here.
    pub async fn create_multipart(
        &self,
        key: &str,
        terms: &PutTerms,
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Result<Signed, SignError> {
        let headers = described(terms.content_type.as_deref(), &terms.metadata)?;
        self.sign("POST", key, headers, &[("uploads", "")], now, expires_in).await
    }

    /// The end of a multipart upload; the client sends the list of parts as XML.
    pub async fn complete_multipart(
        &self,
        key: &str,
        upload_id: &str,
        write_once: bool,
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Result<Signed, SignError> {
        let mut headers = Vec::new();
        if write_once {
            headers.push(("if-none-match".into(), "*".into()));
        }
        self.sign("POST", key, headers, &[("uploadId", upload_id)], now, expires_in).await
    }

    /// A form upload, as a browser does it without a script; the store itself bounds the
    /// file's size.
    pub async fn post(
        &self,
        key: &str,
        terms: &PostTerms,
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Result<Signed, SignError> {
        self.target.object_path(key)?;
        let current = self.keys.at(now).await?;
        let at = now.trunc_subsecs(0);
        let expires_at = at + TimeDelta::seconds(expiry(at, expires_in, current.ends_at)?);
        let fields = form::fields(&self.target.bucket, key, terms, &current.key, at, expires_at)?;
        Ok(Signed {
            method: "POST",
            url: self.target.bucket_url(),
            headers: BTreeMap::new(),
            fields: Some(fields),
            expires_at,
        })
    }

    /// Signs `query` (ascending by name) and `headers`, and hands the headers out.
    async fn sign(
        &self,
        method: &'static str,
        key: &str,
        mut headers: Headers<'_>,
        query: &[(&str, &str)],
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Result<Signed, SignError> {
        let path = self.target.object_path(key)?;
        let current = self.keys.at(now).await?;
        // The signature carries whole seconds: what is left of the second is lost.
        let at = now.trunc_subsecs(0);
        let seconds = expiry(at, expires_in, current.ends_at)?;
        headers.push(("host".into(), Cow::Borrowed(&self.target.host)));
        headers.sort_unstable();
        let lines: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
        let query = Request { method, path: &path, headers: &lines, query }.presign(
            &current.key,
            at,
            seconds,
        );
        drop(lines);
        let mut url =
            String::with_capacity(self.target.origin.len() + path.len() + query.len() + 1);
        for part in [&self.target.origin, &path, "?", &query] {
            url.push_str(part);
        }
        let handed_out = headers.into_iter().filter(|(n, _)| n != "host" && n != "content-length");
        Ok(Signed {
            method,
            url,
            headers: handed_out.map(|(n, v)| (n.into_owned(), v.into_owned())).collect(),
            fields: None,
            expires_at: at + TimeDelta::seconds(seconds),
        })
    }
}

/// For how many seconds from `at` on: never longer than the credentials, or S3, allow.
fn expiry(
    at: Timestamp,
    expires_in: TimeDelta,
    ends_at: Option<Timestamp>,
) -> Result<i64, SignError> {
    let left = ends_at.map_or(MAX_EXPIRY, |end| end - at);
    let seconds = expires_in.min(left).min(MAX_EXPIRY).num_seconds();
    if seconds < 1 { Err(SignError::Expiry) } else { Ok(seconds) }
}

fn described<'a>(
    content_type: Option<&str>,
    metadata: &BTreeMap<String, String>,
) -> Result<Headers<'a>, SignError> {
    let mut headers = Headers::with_capacity(metadata.len() + 8);
    if let Some(content_type) = content_type {
        headers.push(("content-type".into(), clean("content-type", content_type)?.into()));
    }
    for (name, value) in metadata {
        headers.push((meta_name(name)?.into(), clean(name, value)?.into()));
    }
    Ok(headers)
}

fn push_length(headers: &mut Headers<'_>, length: Option<u64>) {
    if let Some(length) = length {
        headers.push(("content-length".into(), length.to_string().into()));
    }
}

/// The value, and the algorithm's name beside it: Ceph checks the one only where it sees
/// the other.
fn push_checksum(headers: &mut Headers<'_>, checksum: Option<&Checksum>) {
    if let Some(checksum) = checksum {
        let algorithm = checksum.algorithm();
        headers.push((algorithm.header().into(), checksum.value().into()));
        if let Some(name) = algorithm.sdk_name() {
            headers.push(("x-amz-sdk-checksum-algorithm".into(), name.into()));
        }
    }
}

fn clean(name: &str, value: &str) -> Result<String, SignError> {
    header_value(value).ok_or_else(|| SignError::Header(name.to_owned()))
}

/// Lower case only: stores fold the case, so two names that differ in it would meet.
fn meta_name(name: &str) -> Result<String, SignError> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if !name.is_empty() && name.bytes().all(good) {
        Ok(format!("x-amz-meta-{name}"))
    } else {
        Err(SignError::Header(name.to_owned()))
    }
}

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;
