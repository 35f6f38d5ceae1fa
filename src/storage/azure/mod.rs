//! A container of Azure Blob Storage, over its REST API.
//!
//! This module computes the signatures itself, and sends the requests with the HTTP client that the
//! service uses for its other outbound requests. It needs only one HMAC for each request and two
//! small XML documents. The vendor's crate `azure_storage_blob` has its own HTTP client, its own
//! retries and Entra ID, and cannot sign a service SAS with an account key. The crate
//! `object_store` cannot write or list uncommitted blocks by id, and depends on `reqwest`. The
//! signatures are tested against those of Microsoft's JavaScript library (`tests.rs`), and on
//! Azurite.
//!
//! Azure's terms for those of S3:
//!
//! | here | Azure |
//! | --- | --- |
//! | bucket, object | container, block blob |
//! | access key | the account's name and one of its two keys |
//! | presigned URL | service SAS for one blob ([`sas`]) |
//! | part | uncommitted block, whose id contains the multipart upload's id and the part's number |
//! | multipart upload | a small blob in `.multipart/`, which no listing shows ([`multipart`]) |
//!
//! A SAS allows operations on a blob. It does not cover headers, the query or the length. So the
//! size, the type and the checksum are verified on arrival, as on every store.

mod backend;
mod blob_headers;
mod blocks;
mod client;
mod cors;
mod endpoint;
mod errors;
mod multipart;
mod objects;
mod sas;
mod settings;
mod shared_key;
#[cfg(test)]
mod tests;
mod versions;
mod xml;

use std::sync::Arc;

pub(super) use backend::open;
use client::Client;
pub use endpoint::EndpointError;
pub use sas::SasSigner;
pub use settings::AzureSettings;
pub use shared_key::{AccountKey, KeyError as AccountKeyError};

use super::{Capabilities, Store};
use crate::domain::checksum::Algorithm;

/// The version of the REST API and of SAS. The text that a service SAS signs has not changed since
/// 2020-12-06.
const API_VERSION: &str = "2023-11-03";

/// A container of Azure Blob Storage. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Azure {
    client: Arc<Client>,
    signer: Arc<SasSigner>,
}

impl Azure {
    /// Opens the container. Sends no request.
    pub fn connect(settings: &AzureSettings) -> Result<Self, EndpointError> {
        let AzureSettings {
            account,
            key,
            container,
            endpoint,
            public_endpoint,
            path_style,
            timeouts,
            max_attempts,
        } = settings;
        let at = |endpoint: Option<&url::Url>| {
            endpoint::Endpoint::new(endpoint, account, container, *path_style)
        };
        let public = at(public_endpoint.as_ref().or(endpoint.as_ref()))?;
        let client = Client::new(at(endpoint.as_ref())?, key.clone(), *timeouts, *max_attempts);
        let signer = SasSigner::new(public, key.clone());
        Ok(Self { client: Arc::new(client), signer: Arc::new(signer) })
    }

    /// This container as a store of the service.
    pub fn into_store(self, name: impl Into<String>, capabilities: Capabilities) -> Store {
        Store {
            name: name.into(),
            bucket: self.client.endpoint().container().to_owned(),
            signer: self.signer.clone(),
            capabilities: capabilities.into(),
            objects: Arc::new(self),
        }
    }
}

impl Capabilities {
    /// The documented capabilities of Azure Blob Storage.
    pub fn azure() -> Self {
        Self {
            // A SAS with the permission "create" alone does not overwrite.
            write_once: true,
            refuses_if_none_match: false,
            signed_length: false,
            signed_content_type: false,
            // The client can leave out the header, so the bytes are verified on arrival too.
            enforced_checksums: vec![Algorithm::Md5],
            // A client that may write a blob can set its `Content-MD5` property to any value ("Set
            // Blob Properties"), so the property proves nothing.
            returned_checksums: Vec::new(),
            etag_md5: false,
            post_policy: false,
            multipart: true,
            multipart_write_once: true,
            multipart_checksums: Vec::new(),
            checked_parts: false,
            part_checksums: vec![Algorithm::Md5],
            s3_multipart: false,
            part_urls_write_objects: true,
            list_multiparts: true,
            list_order: true,
            start_after: false,
            batch_delete: false,
            notifications: Some(false),
            versioning: false,
            object_lock: false,
            // Every blob is encrypted.
            sse: true,
            // "Scalability and performance targets for Blob storage".
            max_put_size: 5000 << 20,
            max_part_size: 4000 << 20,
        }
    }
}
