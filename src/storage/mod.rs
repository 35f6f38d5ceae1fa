//! The interface to object stores: the traits [`ObjectStore`] and [`Signer`], named errors, and
//! the differences between stores as data ([`Capabilities`]).
//!
//! To add an S3-compatible store, no code is needed. Name it in `src/tests/storage/servers.rs`, so
//! that the contract suite (`src/tests/storage/store_contract`) runs against a real server; the
//! probe finds out what it enforces.
//!
//! To add another kind of store, see [`backend`]. Then run the contract suite against the store.

use std::fmt;
use std::sync::Arc;

use crate::domain::checksum::{Algorithm, Checksum};

pub mod azure;
pub mod backend;
pub mod capabilities;
pub mod cause;
pub mod credentials;
mod error;
pub mod memory;
pub mod metered;
mod object_store;
pub mod probe;
pub mod queue;
pub mod s3;
pub mod signer;
pub mod transfer;

pub use backend::Backend;
pub use capabilities::Capabilities;
pub use error::{Result, Source, StoreError};
pub use object_store::{
    ByteStream, CopySource, ListPage, ListRequest, ObjectMeta, ObjectStore, OpenMultipart, Part,
    PartIntegrity, PutOptions, Written,
};
pub use signer::{SignError, SignedRequest, Signer};

/// A configured store: its bucket, its signer and its capabilities.
#[derive(Clone)]
pub struct Store {
    /// Its name: `[storage.<name>]`.
    pub name: String,
    /// The bucket's name.
    pub bucket: String,
    /// The bucket at the internal endpoint.
    pub objects: Arc<dyn ObjectStore>,
    /// Signs requests for clients, on the public endpoint.
    pub signer: Arc<dyn Signer>,
    /// What the store enforces and returns.
    pub capabilities: Arc<Capabilities>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("name", &self.name)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Whether HEAD returns a checksum of this algorithm after a single PUT.
    pub fn keeps_checksum(&self, algorithm: Algorithm) -> bool {
        self.capabilities.returns_checksum(algorithm)
    }

    /// The checksums of an object that its metadata contains: those that the store keeps, and the
    /// MD5 if the store's ETags are known to be MD5s.
    pub fn checksums_of(&self, meta: &ObjectMeta) -> Vec<Checksum> {
        let has_md5 = self.capabilities.etag_md5 && !meta.keyed;
        let md5 = Checksum::parse_md5_hex(&meta.etag).filter(|_| has_md5);
        md5.into_iter().chain(meta.checksums.iter().cloned()).collect()
    }

    /// Whether HEAD returns the checksum of a whole object made of parts.
    pub fn keeps_checksum_of_parts(&self, algorithm: Algorithm) -> bool {
        self.capabilities.multipart_checksums.contains(&algorithm)
    }
}
