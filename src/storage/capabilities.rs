//! How stores differ, as data. The service never checks the name of a product.
//!
//! To add a capability, add a field here with a value in each constructor, a check in
//! [`super::probe`] that tests it with real requests, and an assertion in the contract suite that
//! the store behaves as its capability says.

use serde::{Deserialize, Serialize};

use crate::domain::checksum::Algorithm;
use crate::domain::limits::{MAX_PART_SIZE, MAX_PUT_SIZE};

/// What a store enforces and returns, as documented, configured or probed. The service verifies
/// every object on arrival anyway. A capability lets the store refuse it earlier, or saves a
/// request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub struct Capabilities {
    /// If a key is created several times with `If-None-Match: *`, also concurrently, exactly one
    /// creation succeeds.
    pub write_once: bool,
    /// A request with `If-None-Match` is refused, usually with 501, although the key does not
    /// exist. URLs are then signed without this header.
    #[serde(default)]
    pub refuses_if_none_match: bool,
    /// A body whose length differs from the signed one is refused.
    pub signed_length: bool,
    /// A content type that differs from the signed one is refused.
    pub signed_content_type: bool,
    /// A body whose checksum differs from the signed one is refused, and the object is not changed.
    pub enforced_checksums: Vec<Algorithm>,
    /// HEAD returns the checksum with which a single PUT was signed.
    pub returned_checksums: Vec<Algorithm>,
    /// The ETag of a single PUT is the MD5 of its bytes, unless the object is encrypted with a
    /// customer or KMS key ([`super::ObjectMeta::keyed`]).
    pub etag_md5: bool,
    /// Form uploads work, and the size limit of their policy is enforced.
    pub post_policy: bool,
    /// Multipart uploads with presigned parts work.
    pub multipart: bool,
    /// `If-None-Match: *` is enforced when a multipart upload is completed.
    pub multipart_write_once: bool,
    /// HEAD returns these checksums of a whole multipart object, if its upload was created with the
    /// algorithm. The parts need no checksums. For other algorithms, a multipart object has no
    /// checksum, or a checksum of the checksums of its parts.
    #[serde(default)]
    pub multipart_checksums: Vec<Algorithm>,
    /// HEAD returns the CRC-64/NVME of a whole multipart object, if each part was sent with one.
    #[serde(default)]
    pub checked_parts: bool,
    /// A part can be sent with a checksum of these algorithms, if the multipart upload was created
    /// with the algorithm. The store refuses bytes that do not match it.
    #[serde(default)]
    pub part_checksums: Vec<Algorithm>,
    /// Clients can create and complete a multipart upload and list its parts by presigned S3
    /// requests, and the response to a part has an ETag. Some clients need that.
    #[serde(default)]
    pub s3_multipart: bool,
    /// Until the URL of a part expires, it can also be used to write the whole object.
    #[serde(default)]
    pub part_urls_write_objects: bool,
    /// Unfinished multipart uploads are listed below any prefix. MinIO lists only the uploads of
    /// one exact key. So on MinIO, only multipart uploads whose ids are in the table can be
    /// aborted.
    pub list_multiparts: bool,
    /// Listings are in byte order, as the merge with the table requires.
    pub list_order: bool,
    /// `start-after` accepts any text, and the listing then contains every key after it.
    pub start_after: bool,
    /// `DeleteObjects` works.
    pub batch_delete: bool,
    /// Whether the store can send events about new objects; `None` if this is not known.
    pub notifications: Option<bool>,
    /// The bucket has versioning.
    #[serde(default)]
    pub versioning: bool,
    /// The bucket locks new objects: until their retention ends, they cannot be deleted.
    #[serde(default)]
    pub object_lock: bool,
    /// `x-amz-server-side-encryption: AES256` is accepted, and HEAD shows it.
    #[serde(default)]
    pub sse: bool,
    /// The largest object that a single PUT can write, in bytes.
    pub max_put_size: u64,
    /// The largest part of a multipart upload, in bytes.
    pub max_part_size: u64,
}

/// What a store does with `If-None-Match: *`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOnce {
    /// One creation of a key succeeds.
    Enforced,
    /// Several creations of a key can succeed.
    Ignored,
    /// No creation with the header succeeds.
    Refused,
}

impl Capabilities {
    /// The documented capabilities of AWS's general-purpose buckets. The listings of directory
    /// buckets have no order.
    pub fn aws() -> Self {
        use Algorithm::{Crc32, Crc32c, Crc64nvme, Sha256};
        Self {
            write_once: true,
            refuses_if_none_match: false,
            signed_length: true,
            signed_content_type: true,
            enforced_checksums: Algorithm::ALL.to_vec(),
            returned_checksums: vec![Sha256, Crc32, Crc32c, Crc64nvme],
            // S3 API reference, "Object": ETag.
            etag_md5: true,
            post_policy: true,
            multipart: true,
            multipart_write_once: true,
            multipart_checksums: vec![Crc32, Crc32c, Crc64nvme],
            checked_parts: true,
            part_checksums: Algorithm::ALL.to_vec(),
            s3_multipart: true,
            part_urls_write_objects: false,
            list_multiparts: true,
            list_order: true,
            start_after: true,
            batch_delete: true,
            notifications: Some(true),
            // A property of the bucket, not of the store.
            versioning: false,
            object_lock: false,
            sse: true,
            max_put_size: MAX_PUT_SIZE,
            max_part_size: MAX_PART_SIZE,
        }
    }

    /// The capabilities that every store has, for a store that was not probed.
    pub fn conservative() -> Self {
        Self {
            write_once: false,
            refuses_if_none_match: false,
            // Length and type are signed headers, so every store that verifies signatures enforces
            // them.
            signed_length: true,
            signed_content_type: true,
            enforced_checksums: Vec::new(),
            returned_checksums: Vec::new(),
            etag_md5: false,
            post_policy: false,
            multipart: true,
            multipart_write_once: false,
            multipart_checksums: Vec::new(),
            checked_parts: false,
            part_checksums: Vec::new(),
            s3_multipart: true,
            part_urls_write_objects: false,
            list_multiparts: false,
            list_order: false,
            start_after: false,
            batch_delete: false,
            notifications: None,
            versioning: false,
            object_lock: false,
            sse: false,
            // Stores document their own limits. A probe cannot find them.
            max_put_size: MAX_PUT_SIZE,
            max_part_size: MAX_PART_SIZE,
        }
    }

    /// What the store does with `If-None-Match: *` in a PUT.
    pub fn write_once(&self) -> WriteOnce {
        match (self.refuses_if_none_match, self.write_once) {
            (true, _) => WriteOnce::Refused,
            (false, true) => WriteOnce::Enforced,
            (false, false) => WriteOnce::Ignored,
        }
    }

    /// Whether a URL that is signed write-once can be used only once.
    pub fn write_once_is_effective(&self) -> bool {
        self.write_once() == WriteOnce::Enforced
    }

    /// Whether a PUT can be signed with `If-None-Match: *`.
    pub fn accepts_write_once(&self) -> bool {
        self.write_once() != WriteOnce::Refused
    }

    /// Whether the store refuses bytes that don't have the signed checksum.
    pub fn enforces_checksum(&self, algorithm: Algorithm) -> bool {
        self.enforced_checksums.contains(&algorithm)
    }

    /// Whether HEAD returns the checksum of a single PUT.
    pub fn returns_checksum(&self, algorithm: Algorithm) -> bool {
        self.returned_checksums.contains(&algorithm)
    }

    /// Whether a listing can start after any key. Otherwise it starts at the first key of its
    /// shard.
    pub fn may_start_after(&self) -> bool {
        self.list_order && self.start_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_set_survives_its_json() {
        let json = serde_json::to_string(&Capabilities::aws()).unwrap();
        assert!(json.contains(r#""returned_checksums":["sha256","crc32","crc32c","crc64nvme"]"#));
        assert_eq!(serde_json::from_str::<Capabilities>(&json).unwrap(), Capabilities::aws());
    }

    #[test]
    fn an_unknown_store_has_only_capabilities_of_every_known_store() {
        let unknown = Capabilities::conservative();
        assert!(!unknown.write_once_is_effective() && !unknown.may_start_after());
        assert!(!Algorithm::ALL.into_iter().any(|a| unknown.returns_checksum(a)));
    }
}
