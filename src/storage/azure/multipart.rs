//! Multipart uploads.
//!
//! Azure stores uncommitted blocks of a blob, but does not record that a multipart upload was
//! created or aborted, or which blocks belong to it. So each multipart upload has a small blob, its
//! record. The record's name contains the key and the id of the multipart upload, and its content
//! is the headers with which the finished object is stored. Records are in a folder of their own,
//! outside of every policy's prefix, and [`list`](crate::storage::ObjectStore::list) leaves them
//! out.
//!
//! An abort deletes the record. After that the upload cannot be completed. Blocks cannot be
//! deleted: Azure removes them when the blob is written, or one week after the last block. Writing
//! the blob only to remove the blocks could overwrite a verified object, so this module does not do
//! that.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::client::{About, Call};
use super::objects::{description, name, timestamp, written};
use super::xml::escaped;
use super::{Azure, blocks};
use crate::domain::checksum::{Algorithm, Checksum};
use crate::domain::ids::{IdSource as _, SystemIds};
use crate::domain::limits::MAX_PAGE;
use crate::storage::{OpenMultipart, Part, PutOptions, Result, StoreError, Written};

/// The folder of the records.
const RECORDS: &str = ".multipart/";

/// The content of a record.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// The headers of the request that completes the upload. They are stored with the object.
    headers: Vec<(String, String)>,
}

/// Whether a listed name is a record.
pub(super) fn is_record(name: &str) -> bool {
    name.starts_with(RECORDS)
}

/// The name of a record, or [`StoreError::NoSuchMultipart`] if the text can't be an id.
fn record(key: &str, upload_id: &str) -> Result<String> {
    if blocks::is_upload_id(upload_id) {
        Ok(format!("{RECORDS}{key}/{upload_id}"))
    } else {
        Err(StoreError::NoSuchMultipart)
    }
}

impl Azure {
    pub(super) async fn begin(&self, key: &str, options: &PutOptions) -> Result<String> {
        let record_of = Record { headers: description(options)? };
        let body = serde_json::to_vec(&record_of).map_err(|error| StoreError::Refused {
            code: "InvalidRequest".to_owned(),
            source: error.into(),
        })?;
        let upload_id = blocks::upload_id(SystemIds.uuid());
        let name = record(key, &upload_id)?;
        let call = Call::new("PUT", About::Blob(&name))
            .header("x-ms-blob-type", "BlockBlob")
            .header(Algorithm::Md5.header(), Checksum::of(Algorithm::Md5, &body).value())
            .body(body.into());
        self.client.send(&call).await?;
        Ok(upload_id)
    }

    /// Sends a block and looks for the record at the same time, because a block of an unknown
    /// upload does no harm.
    pub(super) async fn send_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u16,
        body: Bytes,
    ) -> Result<Part> {
        let size = body.len() as u64;
        // Shared Key does not sign the bytes. The MD5 in a signed header protects them.
        let md5 = Checksum::of(Algorithm::Md5, &body);
        let call = Call::new("PUT", About::Blob(key))
            .query("comp", "block")
            .query("blockid", blocks::id(upload_id, number))
            .header(Algorithm::Md5.header(), md5.value())
            .body(body);
        let (known, sent) =
            tokio::join!(self.require_record(key, upload_id), self.client.send(&call));
        known?;
        sent?;
        Ok(part(number, size))
    }

    pub(super) async fn parts(&self, key: &str, upload_id: &str) -> Result<Vec<Part>> {
        self.require_record(key, upload_id).await?;
        let call = Call::new("GET", About::Blob(key))
            .query("comp", "blocklist")
            .query("blocklisttype", "uncommitted");
        let list = match self.client.xml(&call).await {
            Ok(list) => list,
            // No block was sent yet.
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut parts = Vec::new();
        for block in list.child("UncommittedBlocks").iter().flat_map(|blocks| blocks.all("Block")) {
            let Some(name) = block.text_of("Name") else { continue };
            let size = block.text_of("Size").and_then(|size| size.parse().ok());
            // Other blocks belong to other uploads of the same key.
            if let (Some(number), Some(size)) = (blocks::number(upload_id, name), size) {
                parts.push(part(number, size));
            }
        }
        parts.sort_unstable_by_key(|part| part.number);
        Ok(parts)
    }

    pub(super) async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
        if_none_match: bool,
    ) -> Result<Written> {
        let Record { headers } = self.read_record(key, upload_id).await?;
        let mut list = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>".to_owned();
        for part in parts {
            let block = blocks::id(upload_id, part.number);
            // Not `Latest`, which would also find blocks of the current blob.
            list.extend(["<Uncommitted>", &escaped(&block), "</Uncommitted>"]);
        }
        list.push_str("</BlockList>");
        let md5 = Checksum::of(Algorithm::Md5, list.as_bytes());
        let mut call = Call::new("PUT", About::Blob(key))
            .query("comp", "blocklist")
            .header(Algorithm::Md5.header(), md5.value())
            .headers(headers)
            .body(list.into());
        if if_none_match {
            call = call.header("if-none-match", "*");
        }
        let done = written(&self.client.send(&call).await?)?;
        // An audit finds a record that remains, and removes it.
        if let Err(error) = self.abort(key, upload_id).await {
            tracing::warn!(
                key,
                error = &error as &dyn std::error::Error,
                "the record of a completed multipart upload was not deleted"
            );
        }
        Ok(done)
    }

    pub(super) async fn abort(&self, key: &str, upload_id: &str) -> Result<()> {
        match record(key, upload_id) {
            Ok(name) => self.delete_one(&name, None).await,
            Err(_) => Ok(()),
        }
    }

    pub(super) async fn open_multiparts(
        &self,
        prefix: &str,
        marker: Option<&str>,
    ) -> Result<(Vec<OpenMultipart>, Option<String>)> {
        let below = format!("{RECORDS}{prefix}");
        let (blobs, next) = self.page(&below, marker, MAX_PAGE, None).await?;
        let mut open = Vec::with_capacity(blobs.len());
        for blob in &blobs {
            let name = name(blob)?;
            let key = name.strip_prefix(RECORDS).and_then(|name| name.rsplit_once('/'));
            let Some((key, upload_id)) = key.filter(|(_, id)| blocks::is_upload_id(id)) else {
                continue;
            };
            let at = blob.child("Properties").and_then(|about| about.text_of("Last-Modified"));
            open.push(OpenMultipart {
                key: key.to_owned(),
                upload_id: upload_id.to_owned(),
                initiated: at.and_then(timestamp),
            });
        }
        Ok((open, next))
    }

    async fn require_record(&self, key: &str, upload_id: &str) -> Result<()> {
        let name = record(key, upload_id)?;
        match self.client.send(&Call::new("HEAD", About::Blob(&name))).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Err(StoreError::NoSuchMultipart),
            Err(error) => Err(error.into()),
        }
    }

    async fn read_record(&self, key: &str, upload_id: &str) -> Result<Record> {
        let name = record(key, upload_id)?;
        let response = match self.client.send(&Call::new("GET", About::Blob(&name))).await {
            Ok(response) => response,
            Err(error) if error.is_not_found() => return Err(StoreError::NoSuchMultipart),
            Err(error) => return Err(error.into()),
        };
        let response = response.read(MAX_RECORD).await;
        let response = response.map_err(|error| StoreError::Unavailable(error.into()))?;
        serde_json::from_slice(&response.body)
            .map_err(|_| StoreError::Protocol("the record of a multipart upload is invalid".into()))
    }
}

/// The largest record in bytes. Metadata and settings are much smaller.
const MAX_RECORD: usize = 64 << 10;

/// Azure returns neither a time nor an ETag for a block. This ETag distinguishes only parts of
/// different sizes.
fn part(number: u16, size: u64) -> Part {
    let etag = format!("{number}-{size}");
    Part { number, etag, size, last_modified: None, checksum: None }
}
