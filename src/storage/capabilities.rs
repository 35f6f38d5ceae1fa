//! What stores differ in, as data: the service asks here instead of by product name.
//!
//! To add a capability: a field with a value in each constructor here, a check in
//! [`super::probe`] that finds it out over the wire, and an assertion in the contract suite
//! that the store does what its capability says.

use serde::{Deserialize, Serialize};

use crate::domain::checksum::Algorithm;

/// What a store enforces and returns, as documented, configured or probed. All that is not
/// here is verified on arrival anyway; a capability only moves a refusal to the door or
/// saves a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub struct Capabilities {
    /// Of many creations of one key with `If-None-Match: *`, racing ones too, one wins and
    /// the others are refused.
    pub write_once: bool,
    /// A body of another length than the signed one is refused.
    pub signed_length: bool,
    /// Another content type than the signed one is refused.
    pub signed_content_type: bool,
    /// A body with another checksum than the signed one is refused, and changes nothing.
    pub enforced_checksums: Vec<Algorithm>,
    /// HEAD tells the checksum that a single PUT was signed with.
    pub returned_checksums: Vec<Algorithm>,
    /// The ETag of a single PUT is the MD5 of its bytes, unless they are encrypted with a
    /// key of their own ([`super::ObjectMeta::keyed`]).
    pub etag_md5: bool,
    /// Form uploads, held to the policy's size.
    pub post_policy: bool,
    /// Multipart uploads with presigned parts.
    pub multipart: bool,
    /// Completing a multipart upload heeds `If-None-Match: *`.
    pub multipart_write_once: bool,
    /// HEAD tells these of a whole object that was made of parts, where its upload was begun
    /// so; parts come without checksums of their own. Elsewhere an object of parts has a
    /// checksum of checksums, or none.
    #[serde(default)]
    pub multipart_checksums: Vec<Algorithm>,
    /// HEAD tells the CRC-64/NVME of a whole object that was made of parts, where each of them came
    /// with its own.
    #[serde(default)]
    pub checked_parts: bool,
    /// Unfinished multipart uploads are listed below any prefix. MinIO lists those of one
    /// key only, asked for by the whole key: there, abort the ids that the table knows.
    pub list_multiparts: bool,
    /// Listings ascend byte by byte, which a merge with the table needs.
    pub list_order: bool,
    /// `start-after` may be any text, and no key behind it is left out.
    pub start_after: bool,
    /// `DeleteObjects`.
    pub batch_delete: bool,
    /// Whether the store can tell of new objects by itself; `None` where nobody asked.
    pub notifications: Option<bool>,
}

impl Capabilities {
    /// AWS's general-purpose buckets, as its documentation has them. Directory buckets
    /// list in no order.
    pub fn aws() -> Self {
        use Algorithm::{Crc32, Crc32c, Crc64nvme, Sha256};
        Self {
            write_once: true,
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
            list_multiparts: true,
            list_order: true,
            start_after: true,
            batch_delete: true,
            notifications: Some(true),
        }
    }

    /// What every store is known to do, and nothing beyond: for one that was not probed.
    pub fn conservative() -> Self {
        Self {
            write_once: false,
            // These two are signed headers, so they follow from checking signatures at all.
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
            list_multiparts: false,
            list_order: false,
            start_after: false,
            batch_delete: false,
            notifications: None,
        }
    }

    /// Whether a URL that is signed write-once can be used once only.
    pub fn write_once_is_effective(&self) -> bool {
        self.write_once
    }

    /// Whether the store refuses bytes that don't have the signed checksum.
    pub fn enforces_checksum(&self, algorithm: Algorithm) -> bool {
        self.enforced_checksums.contains(&algorithm)
    }

    /// Whether HEAD tells the checksum of a single PUT.
    pub fn returns_checksum(&self, algorithm: Algorithm) -> bool {
        self.returned_checksums.contains(&algorithm)
    }

    /// Whether a listing may begin behind any key; else it begins at its shard's first.
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
    fn nothing_is_believed_of_an_unknown_store_that_a_known_one_lacks() {
        let unknown = Capabilities::conservative();
        assert!(!unknown.write_once_is_effective() && !unknown.may_start_after());
        assert!(!Algorithm::ALL.into_iter().any(|a| unknown.returns_checksum(a)));
    }
}
