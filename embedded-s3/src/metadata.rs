//! The metadata file of each object's blob. A lost index is rebuilt from these files.
//!
//! The file is written after the object is committed, and it is not synced. That is enough, because
//! the index is durable, and the next start writes each missing or empty metadata file. A blob
//! without metadata was never committed, or is a part of a multipart upload, or is an object of
//! version 0.1.0, and no later version has been started since.

use serde::{Deserialize, Serialize};

use crate::checksum::Sum;
use crate::error::StoreError;
use crate::index::{Attributes, Object};

/// The version of the format.
const VERSION: u8 = 1;

/// An object's row and its name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Metadata {
    version: u8,
    pub bucket: String,
    pub key: String,
    pub size: u64,
    etag: String,
    pub modified_ms: i64,
    sum: Option<Sum>,
    attributes: Attributes,
    part_sizes: Option<Vec<u64>>,
}

impl Metadata {
    pub(crate) fn new(bucket: String, key: String, object: Object) -> Self {
        let Object { size, etag, modified_ms, blob: _, sum, attributes, part_sizes } = object;
        Self { version: VERSION, bucket, key, size, etag, modified_ms, sum, attributes, part_sizes }
    }

    /// The bucket, the key and the object whose bytes are in `blob`.
    pub(crate) fn into_object(self, blob: String) -> (String, String, Object) {
        let Self { version: _, bucket, key, size, etag, modified_ms, sum, attributes, part_sizes } =
            self;
        let object = Object { size, etag, modified_ms, blob, sum, attributes, part_sizes };
        (bucket, key, object)
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self)
            .map_err(|source| StoreError::Corrupt { column: "metadata", source })
    }

    /// Returns `None` for a file that is damaged or has a format of a later version.
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(json).ok().filter(|metadata| metadata.version == VERSION)
    }
}
