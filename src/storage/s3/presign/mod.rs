//! Signs requests with Signature Version 4: the [`Signer`] of S3-compatible stores.
//!
//! If nothing is declared, only the host is signed, and a plain `curl -T FILE URL` works.
//!
//! To add a kind of request: add an [`Operation`], and collect its headers and query parameters in
//! `Presigner::sign`. Then add a case to `oracle_tests.rs`, which compares signatures with the AWS
//! libraries, and a case to the contract suite, which sends the request to real servers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_credential_types::provider::SharedCredentialsProvider;
use chrono::{SubsecRound as _, TimeDelta};

use crate::domain::checksum::Checksum;
use crate::domain::clock::Timestamp;
use crate::domain::limits::{MAX_PARTS, MAX_SIGNED_LIFETIME};
use crate::storage::s3::object_headers;
use crate::storage::signer::{
    GetRequest, Operation, PostRequest, PutRequest, SignError, SignedRequest, Signer,
};

mod form;
mod keys;
mod sigv4;
mod target;

pub use target::{Target, TargetError};

use keys::Keys;
use sigv4::{Request, header_value};

/// Signs requests for one bucket at its public endpoint.
#[derive(Debug)]
pub struct Presigner {
    target: Target,
    keys: Keys,
}

type Headers<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

impl Presigner {
    /// A signer for `target`. Credentials may change over time.
    pub fn new(target: Target, credentials: SharedCredentialsProvider) -> Self {
        let keys = Keys::new(credentials, target.region.clone());
        Self { target, keys }
    }

    async fn sign_form(
        &self,
        key: &str,
        request: &PostRequest,
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Result<SignedRequest, SignError> {
        self.target.object_path(key)?;
        let current = self.keys.at(now).await?;
        let at = now.trunc_subsecs(0);
        let expires_at = at + TimeDelta::seconds(expiry(at, expires_in, current.ends_at)?);
        let fields = form::fields(&self.target.bucket, key, request, &current.key, at, expires_at)?;
        Ok(SignedRequest {
            method: "POST",
            url: self.target.bucket_url(),
            headers: BTreeMap::new(),
            fields: Some(fields),
            expires_at,
        })
    }

    /// Signs `query` (ascending by name) and `headers`, and returns the headers with the URL.
    async fn sign_url(
        &self,
        method: &'static str,
        key: &str,
        mut headers: Headers<'_>,
        query: &[(&str, &str)],
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Result<SignedRequest, SignError> {
        let path = self.target.object_path(key)?;
        let current = self.keys.at(now).await?;
        // Times in the signature are whole seconds.
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
        let returned = headers.into_iter().filter(|(n, _)| n != "host" && n != "content-length");
        Ok(SignedRequest {
            method,
            url,
            headers: returned.map(|(n, v)| (n.into_owned(), v.into_owned())).collect(),
            fields: None,
            expires_at: at + TimeDelta::seconds(seconds),
        })
    }
}

#[async_trait]
impl Signer for Presigner {
    fn bucket_url(&self) -> String {
        self.target.bucket_url()
    }

    async fn sign(
        &self,
        key: &str,
        operation: Operation<'_>,
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Result<SignedRequest, SignError> {
        let mut headers = Headers::new();
        let part;
        let (method, query): (_, &[(&str, &str)]) = match operation {
            Operation::Post(request) => return self.sign_form(key, request, now, expires_in).await,
            Operation::Get(request) => {
                return self
                    .sign_url("GET", key, headers, &overrides(request), now, expires_in)
                    .await;
            }
            Operation::Put(request) => {
                headers = described(request)?;
                push_length(&mut headers, request.content_length);
                push_checksum(&mut headers, request.checksum.as_ref());
                push_write_once(&mut headers, request.write_once);
                ("PUT", &[])
            }
            Operation::CreateMultipart(request) => {
                headers = described(request)?;
                ("POST", &[("uploads", "")])
            }
            Operation::UploadPart { upload_id, number, request } => {
                if !(1..=MAX_PARTS).contains(&number) {
                    return Err(SignError::PartNumber);
                }
                push_length(&mut headers, request.content_length);
                push_checksum(&mut headers, request.checksum.as_ref());
                part = number.to_string();
                ("PUT", &[("partNumber", part.as_str()), ("uploadId", upload_id)])
            }
            Operation::ListParts { upload_id } => ("GET", &[("uploadId", upload_id)]),
            Operation::CompleteMultipart { upload_id, write_once } => {
                push_write_once(&mut headers, write_once);
                ("POST", &[("uploadId", upload_id)])
            }
            Operation::AbortMultipart { upload_id } => ("DELETE", &[("uploadId", upload_id)]),
        };
        self.sign_url(method, key, headers, query, now, expires_in).await
    }
}

/// The query parameters that replace headers of a download, ascending.
fn overrides(request: &GetRequest) -> Vec<(&str, &str)> {
    let overrides = [
        ("response-cache-control", &request.cache_control),
        ("response-content-disposition", &request.content_disposition),
        ("response-content-language", &request.content_language),
        ("response-content-type", &request.content_type),
        ("versionId", &request.version_id),
    ];
    overrides.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
}

/// The lifetime in seconds from `at`: limited by the credentials and by S3.
fn expiry(
    at: Timestamp,
    expires_in: TimeDelta,
    ends_at: Option<Timestamp>,
) -> Result<i64, SignError> {
    let left = ends_at.map_or(MAX_SIGNED_LIFETIME, |end| end - at);
    let seconds = expires_in.min(left).min(MAX_SIGNED_LIFETIME).num_seconds();
    if seconds < 1 { Err(SignError::Expiry) } else { Ok(seconds) }
}

/// The headers that describe the object. For a multipart upload, only the creation has them.
fn described<'a>(request: &PutRequest) -> Result<Headers<'a>, SignError> {
    let mut headers = Headers::with_capacity(request.metadata.len() + 8);
    if let Some(content_type) = &request.content_type {
        headers.push(("content-type".into(), clean("content-type", content_type)?.into()));
    }
    for (name, value) in &request.metadata {
        headers.push((meta_name(name)?.into(), clean(name, value)?.into()));
    }
    for (name, value) in object_headers::headers(&request.object) {
        headers.push((name.into(), clean(name, &value)?.into()));
    }
    Ok(headers)
}

fn push_length(headers: &mut Headers<'_>, length: Option<u64>) {
    if let Some(length) = length {
        headers.push(("content-length".into(), length.to_string().into()));
    }
}

/// The value and the algorithm's name: Ceph checks the value only if the name is present.
fn push_checksum(headers: &mut Headers<'_>, checksum: Option<&Checksum>) {
    if let Some(checksum) = checksum {
        let algorithm = checksum.algorithm();
        headers.push((algorithm.header().into(), checksum.value().into()));
        if let Some(name) = algorithm.sdk_name() {
            headers.push(("x-amz-sdk-checksum-algorithm".into(), name.into()));
        }
    }
}

fn push_write_once(headers: &mut Headers<'_>, write_once: bool) {
    if write_once {
        headers.push(("if-none-match".into(), "*".into()));
    }
}

fn clean(name: &str, value: &str) -> Result<String, SignError> {
    header_value(value).ok_or_else(|| SignError::Header(name.to_owned()))
}

/// Lower case only: stores ignore case, so names that differ only in case would collide.
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
