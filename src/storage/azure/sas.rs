//! Signs requests for clients as service SAS ("Create a service SAS", REST API reference).
//!
//! A SAS allows operations on one blob until a time. It has these limits:
//!
//! - Headers and the length are not signed. A client can send another type, another length or no
//!   checksum. The rules detect that on arrival.
//! - The query is not signed. With the URL of a part, a client can write the whole blob too
//!   ([`Capabilities::part_urls_write_objects`](crate::storage::Capabilities)).
//!
//! A URL with only the permission "create" cannot overwrite a blob, whatever headers the client
//! sends. So it is write-once.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{SubsecRound as _, TimeDelta};

use super::endpoint::Endpoint;
use super::shared_key::AccountKey;
use super::{API_VERSION, blob_headers, blocks};
use crate::domain::checksum::{Algorithm, Checksum};
use crate::domain::clock::Timestamp;
use crate::domain::limits::{MAX_PARTS, MAX_SIGNED_LIFETIME};
use crate::storage::signer::{
    GetRequest, KeyError, Operation, PutRequest, SignError, SignedRequest, Signer,
};

/// Signs requests for one container at its public endpoint.
#[derive(Debug)]
pub struct SasSigner {
    endpoint: Endpoint,
    key: AccountKey,
}

/// What a SAS allows.
#[derive(Debug, Default)]
pub(super) struct Grant<'a> {
    /// In the order of the documentation: `rcwt` here.
    pub permissions: &'a str,
    /// A version of the blob, for a read.
    pub version: Option<&'a str>,
    /// `rscc`, `rscd`, `rsce`, `rscl`, `rsct`: headers of the response to a read.
    pub overrides: [Option<&'a str>; 5],
}

/// The names of [`Grant::overrides`].
const OVERRIDES: [&str; 5] = ["rscc", "rscd", "rsce", "rscl", "rsct"];

impl SasSigner {
    pub(super) fn new(endpoint: Endpoint, key: AccountKey) -> Self {
        Self { endpoint, key }
    }

    /// The URL of a blob with a SAS, and when it expires. `query` is added unsigned.
    pub(super) fn url(
        &self,
        key: &str,
        grant: &Grant<'_>,
        query: &[(&str, &str)],
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Result<(String, Timestamp), SignError> {
        KeyError::check(key)?;
        let seconds = expires_in.min(MAX_SIGNED_LIFETIME).num_seconds();
        if seconds < 1 {
            return Err(SignError::Expiry);
        }
        // Times in a SAS are whole seconds. No start time is signed, because a store whose clock is
        // behind would refuse the URL.
        let expires_at = now.trunc_subsecs(0) + TimeDelta::seconds(seconds);
        let expiry = expires_at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let Grant { permissions, version, overrides } = *grant;
        let resource = if version.is_some() { "bv" } else { "b" };
        let protocol = if self.endpoint.is_https() { "https" } else { "" };
        let (account, container) = (self.endpoint.account(), self.endpoint.container());
        let blob = format!("/blob/{account}/{container}/{key}");
        let [caching, disposition, encoding, language, media_type] =
            overrides.map(Option::unwrap_or_default);
        // Permissions, start, expiry, resource, policy, address, protocol, version, kind of
        // resource, snapshot or version, encryption scope, headers of the response.
        let text = [
            permissions,
            "",
            &expiry,
            &blob,
            "",
            "",
            protocol,
            API_VERSION,
            resource,
            version.unwrap_or_default(),
            "",
            caching,
            disposition,
            encoding,
            language,
            media_type,
        ]
        .join("\n");
        let signature = self.key.sign(&text);
        let mut all = vec![("sv", API_VERSION), ("se", &*expiry), ("sr", resource)];
        all.push(("sp", permissions));
        if !protocol.is_empty() {
            all.push(("spr", protocol));
        }
        all.extend(version.map(|version| ("versionid", version)));
        for (name, value) in OVERRIDES.into_iter().zip(overrides) {
            all.extend(value.map(|value| (name, value)));
        }
        all.extend_from_slice(query);
        all.push(("sig", &signature));
        Ok((self.endpoint.url(&self.endpoint.blob_path(key), all), expires_at))
    }
}

#[async_trait]
impl Signer for SasSigner {
    fn bucket_url(&self) -> String {
        self.endpoint.url(&self.endpoint.container_path(), [])
    }

    async fn sign(
        &self,
        key: &str,
        operation: Operation<'_>,
        now: Timestamp,
        expires_in: TimeDelta,
    ) -> Result<SignedRequest, SignError> {
        let mut headers = BTreeMap::new();
        let (block, about_block);
        let mut query: &[(&str, &str)] = &[];
        let (method, grant) = match operation {
            Operation::Put(request) => {
                headers = put_headers(request)?;
                let tags = !request.object.tags.is_empty();
                let permissions = match (request.write_once, tags) {
                    (true, false) => "c",
                    (true, true) => "ct",
                    (false, false) => "cw",
                    (false, true) => "cwt",
                };
                ("PUT", Grant { permissions, ..Grant::default() })
            }
            Operation::Get(request) => {
                let GetRequest {
                    content_disposition,
                    content_type,
                    cache_control,
                    content_language,
                    version_id,
                } = request;
                let overrides = [
                    cache_control.as_deref(),
                    content_disposition.as_deref(),
                    None,
                    content_language.as_deref(),
                    content_type.as_deref(),
                ];
                ("GET", Grant { permissions: "r", version: version_id.as_deref(), overrides })
            }
            Operation::UploadPart { upload_id, number, request } => {
                if !(1..=MAX_PARTS).contains(&number) {
                    return Err(SignError::PartNumber);
                }
                headers.extend(content_md5(request.checksum.as_ref()));
                block = blocks::id(upload_id, number);
                about_block = [("comp", "block"), ("blockid", block.as_str())];
                query = &about_block;
                ("PUT", Grant { permissions: "w", ..Grant::default() })
            }
            Operation::Post(_) => return Err(SignError::Unsupported("a form upload")),
            Operation::CreateMultipart(_)
            | Operation::ListParts { .. }
            | Operation::CompleteMultipart { .. }
            | Operation::AbortMultipart { .. } => {
                return Err(SignError::Unsupported("a request about a multipart upload"));
            }
        };
        let (url, expires_at) = self.url(key, &grant, query, now, expires_in)?;
        Ok(SignedRequest { method, url, headers, fields: None, expires_at })
    }
}

/// The headers of a PUT. "Put Blob" requires `x-ms-blob-type`.
fn put_headers(request: &PutRequest) -> Result<BTreeMap<String, String>, SignError> {
    let PutRequest {
        content_type,
        // A SAS has no length. The rules verify it on arrival.
        content_length: _,
        checksum,
        write_once,
        metadata,
        object,
    } = request;
    let mut headers: BTreeMap<_, _> = blob_headers::settings(object)?.into_iter().collect();
    headers.extend(blob_headers::metadata(metadata)?);
    headers.insert("x-ms-blob-type".to_owned(), "BlockBlob".to_owned());
    if let Some(content_type) = content_type {
        let value = blob_headers::checked("content-type", content_type)?;
        headers.insert("content-type".to_owned(), value);
    }
    headers.extend(content_md5(checksum.as_ref()));
    if *write_once {
        headers.insert("if-none-match".to_owned(), "*".to_owned());
    }
    Ok(headers)
}

/// Azure checks MD5 only. Other checksums are compared on arrival.
fn content_md5(checksum: Option<&Checksum>) -> Option<(String, String)> {
    let md5 = checksum.filter(|checksum| checksum.algorithm() == Algorithm::Md5)?;
    Some((Algorithm::Md5.header().to_owned(), md5.value()))
}
