//! The calls of [`ObjectStore`].

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, TimeDelta};
use tokio::time::timeout;

use super::client::{About, Call};
use super::errors::{self, CallError};
use super::xml::Element;
use super::{Azure, blob_headers, multipart};
use crate::domain::checksum::{Algorithm, Checksum};
use crate::domain::clock::Timestamp;
use crate::domain::limits::MAX_PAGE;
use crate::domain::reconcile::Listed;
use crate::net::Streamed;
use crate::storage::{
    ByteStream, ListPage, ListRequest, ObjectMeta, ObjectStore, OpenMultipart, Part, PartIntegrity,
    PutOptions, Result, StoreError, Written,
};

#[async_trait]
impl ObjectStore for Azure {
    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>> {
        match self.client.send(&Call::new("HEAD", About::Blob(key))).await {
            Ok(response) => meta(&response).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn head_version(&self, key: &str, version_id: &str) -> Result<Option<ObjectMeta>> {
        self.head_one_version(key, version_id).await
    }

    async fn read(&self, key: &str, range: Range<u64>, if_match: &str) -> Result<Bytes> {
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else {
            return Ok(Bytes::new());
        };
        let header = format!("bytes={}-{last}", range.start);
        let Some(mut response) = self.get(key, Some(header), if_match).await? else {
            return Ok(Bytes::new());
        };
        if response.status != 206 && range.start > 0 {
            return Err(StoreError::Protocol("the store ignored a Range header".into()));
        }
        // At most the requested bytes, even if the store sends the whole object.
        let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut bytes = BytesMut::new();
        while bytes.len() < len {
            let Some(chunk) = next(&mut response, self.client.stalled()).await? else { break };
            if bytes.is_empty() && chunk.len() >= len {
                return Ok(chunk.slice(..len));
            }
            bytes.extend_from_slice(&chunk);
        }
        bytes.truncate(len);
        Ok(bytes.freeze())
    }

    async fn read_all(&self, key: &str, if_match: &str) -> Result<ByteStream> {
        let Some(response) = self.get(key, None, if_match).await? else {
            return Ok(Box::pin(futures_util::stream::empty()));
        };
        let limit = self.client.stalled();
        Ok(Box::pin(futures_util::stream::unfold(Some(response), move |open| async move {
            let mut response = open?;
            match next(&mut response, limit).await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(response))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })))
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        let PutOptions {
            content_type: _,
            content_encoding: _,
            metadata: _,
            object: _,
            checksum,
            if_none_match,
            if_match,
        } = options;
        // Shared Key does not sign the bytes. The MD5 in a signed header protects them.
        let md5 = checksum.as_ref().filter(|sum| sum.algorithm() == Algorithm::Md5);
        let md5 = md5.cloned().unwrap_or_else(|| Checksum::of(Algorithm::Md5, &body));
        let mut call = Call::new("PUT", About::Blob(key))
            .header("x-ms-blob-type", "BlockBlob")
            .header(Algorithm::Md5.header(), md5.value())
            .headers(description(options)?)
            .body(body);
        if *if_none_match {
            call = call.header("if-none-match", "*");
        }
        if let Some(etag) = if_match {
            call = call.header("if-match", format!("\"{etag}\""));
        }
        match self.client.send(&call).await {
            Ok(response) => written(&response),
            // The object of the condition does not exist any more.
            Err(error) if if_match.is_some() && error.is_not_found() => {
                Err(StoreError::PreconditionFailed)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.delete_one(key, None).await?;
        if self.client.keeps_versions() {
            self.delete_versions(key).await?;
        }
        Ok(())
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        let ListRequest { prefix, start_after: _, token, limit } = request;
        let limit = if *limit == 0 { MAX_PAGE } else { (*limit).min(MAX_PAGE) };
        let (blobs, next) = self.page(prefix, token.as_deref(), limit, None).await?;
        let mut objects = Vec::with_capacity(blobs.len());
        for blob in &blobs {
            let listed = listed(blob)?;
            if !multipart::is_record(&listed.key) {
                objects.push(listed);
            }
        }
        Ok(ListPage { objects, next })
    }

    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<String> {
        self.begin(key, options).await
    }

    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u16,
        body: Bytes,
        _integrity: PartIntegrity,
    ) -> Result<Part> {
        self.send_part(key, upload_id, number, body).await
    }

    async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Vec<Part>> {
        self.parts(key, upload_id).await
    }

    async fn complete_multipart(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
        if_none_match: bool,
    ) -> Result<Written> {
        self.complete(key, upload_id, parts, if_none_match).await
    }

    async fn abort_multipart(&self, key: &str, upload_id: &str) -> Result<()> {
        self.abort(key, upload_id).await
    }

    async fn list_multiparts(
        &self,
        prefix: &str,
        marker: Option<&str>,
    ) -> Result<(Vec<OpenMultipart>, Option<String>)> {
        self.open_multiparts(prefix, marker).await
    }

    async fn check_bucket(&self) -> Result<()> {
        let call = Call::new("GET", About::Container).query("restype", "container");
        Ok(self.client.send(&call).await.map(drop)?)
    }

    async fn create_bucket(&self) -> Result<()> {
        let call = Call::new("PUT", About::Container).query("restype", "container");
        match self.client.send(&call).await {
            Ok(_) => Ok(()),
            Err(CallError { code, .. }) if code == "ContainerAlreadyExists" => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn clock_offset(&self) -> Option<TimeDelta> {
        self.client.clock_offset().get()
    }
}

impl Azure {
    /// `None` if the range is after the end of the object, or if the object's bytes can't be read.
    async fn get(
        &self,
        key: &str,
        range: Option<String>,
        if_match: &str,
    ) -> Result<Option<Streamed>> {
        let mut call =
            Call::new("GET", About::Blob(key)).header("if-match", format!("\"{if_match}\""));
        if let Some(range) = range {
            call = call.header("range", range);
        }
        match self.client.send(&call).await {
            Ok(response) => Ok(Some(response)),
            Err(error) if error.status == Some(416) => Ok(None),
            // A client can store a blob in the archive tier, because a SAS does not cover headers.
            // Its bytes can't be read, so the rules reject it.
            Err(error) if error.code == "BlobArchived" => Ok(None),
            Err(error) if error.is_not_found() => Err(StoreError::PreconditionFailed),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a blob or one of its versions. Succeeds if it does not exist.
    pub(super) async fn delete_one(&self, key: &str, version: Option<&str>) -> Result<()> {
        let mut call = Call::new("DELETE", About::Blob(key));
        match version {
            Some(version) => call = call.query("versionid", version),
            None => call = call.header("x-ms-delete-snapshots", "include"),
        }
        match self.client.send(&call).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            // A client with a URL for writing can also lease the blob without an end, and a leased
            // blob can't be deleted.
            Err(CallError { code, .. }) if version.is_none() && code == "LeaseIdMissing" => {
                self.break_lease(key).await?;
                match self.client.send(&call).await {
                    Err(error) if !error.is_not_found() => Err(error.into()),
                    _ => Ok(()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn break_lease(&self, key: &str) -> Result<()> {
        let call = Call::new("PUT", About::Blob(key))
            .query("comp", "lease")
            .header("x-ms-lease-action", "break")
            .header("x-ms-lease-break-period", "0");
        match self.client.send(&call).await {
            Ok(_) => Ok(()),
            Err(error)
                if error.is_not_found() || error.code == "LeaseNotPresentWithLeaseOperation" =>
            {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// One page of blobs below a prefix, and the marker of the next one.
    pub(super) async fn page(
        &self,
        prefix: &str,
        marker: Option<&str>,
        limit: usize,
        include: Option<&'static str>,
    ) -> Result<(Vec<Element>, Option<String>)> {
        let mut call = Call::new("GET", About::Container)
            .query("restype", "container")
            .query("comp", "list")
            .query("maxresults", limit.to_string());
        if !prefix.is_empty() {
            call = call.query("prefix", prefix);
        }
        if let Some(marker) = marker {
            call = call.query("marker", marker);
        }
        if let Some(include) = include {
            call = call.query("include", include);
        }
        let root = self.client.xml(&call).await?;
        let next = root.text_of("NextMarker").map(str::to_owned);
        if next.is_some() && next.as_deref() == marker {
            return Err(StoreError::Protocol("the store's listing does not advance".into()));
        }
        let blobs = root.child("Blobs").map(|blobs| blobs.all("Blob").cloned().collect());
        Ok((blobs.unwrap_or_default(), next))
    }
}

/// The next piece of a body, unless it stalls.
async fn next(response: &mut Streamed, limit: Duration) -> Result<Option<Bytes>> {
    let chunk =
        timeout(limit, response.next()).await.map_err(|_| errors::timed_out(limit).error)?;
    chunk.map_err(|error| errors::not_sent(error).error)
}

/// The headers with the properties and the metadata of a blob.
pub(super) fn description(options: &PutOptions) -> Result<Vec<(String, String)>> {
    let PutOptions { content_type, content_encoding, metadata, object, .. } = options;
    let mut headers = blob_headers::settings(object)?;
    headers.extend(blob_headers::metadata(metadata)?);
    for (name, value) in
        [("x-ms-blob-content-type", content_type), ("x-ms-blob-content-encoding", content_encoding)]
    {
        if let Some(value) = value {
            headers.push((name.to_owned(), blob_headers::checked(name, value)?));
        }
    }
    Ok(headers)
}

pub(super) fn written(response: &Streamed) -> Result<Written> {
    let version_id = response.headers.get("x-ms-version-id").cloned();
    Ok(Written { etag: etag(response.headers.get("etag"))?, version_id })
}

pub(super) fn meta(response: &Streamed) -> Result<ObjectMeta> {
    let header = |name: &str| response.headers.get(name).cloned();
    let is_true = |name: &str| response.headers.get(name).is_some_and(|value| value == "true");
    let size = header("content-length").and_then(|length| length.parse().ok());
    Ok(ObjectMeta {
        etag: etag(response.headers.get("etag"))?,
        version_id: header("x-ms-version-id"),
        size: size.ok_or_else(|| StoreError::Protocol("a response without a length".into()))?,
        content_type: header("content-type"),
        content_encoding: header("content-encoding"),
        // `Content-MD5` is no evidence, see `Capabilities::azure`.
        checksums: Vec::new(),
        keyed: header("x-ms-encryption-key-sha256").is_some(),
        sse: is_true("x-ms-server-encrypted").then(|| "AES256".to_owned()),
        locked: is_true("x-ms-legal-hold") || header("x-ms-immutability-policy-mode").is_some(),
        last_modified: header("last-modified").as_deref().and_then(timestamp),
        metadata: blob_headers::read_metadata(&response.headers),
    })
}

fn listed(blob: &Element) -> Result<Listed> {
    let properties = blob.child("Properties");
    let text = |name: &str| properties.and_then(|properties| properties.text_of(name));
    let size = text("Content-Length").and_then(|length| length.parse().ok());
    Ok(Listed {
        key: name(blob)?,
        etag: etag(text("Etag").map(str::to_owned).as_ref())?,
        size: size.ok_or_else(|| StoreError::Protocol("a listed object has no size".into()))?,
        last_modified: text("Last-Modified").and_then(timestamp),
    })
}

/// The name of a listed blob.
pub(super) fn name(blob: &Element) -> Result<String> {
    let name = blob.child("Name");
    name.ok_or_else(|| StoreError::Protocol("a listed object has no name".into()))?.text()
}

/// Azure writes ETags with quotes in headers and without quotes in listings.
fn etag(text: Option<&String>) -> Result<String> {
    match text.map(|etag| etag.trim_matches('"')) {
        Some(etag) if !etag.is_empty() => Ok(etag.to_owned()),
        _ => Err(StoreError::Protocol("the response has no ETag".into())),
    }
}

pub(super) fn timestamp(text: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc2822(text).ok().map(|at| at.to_utc())
}
