//! How the store keeps the objects of a policy: encryption, storage class, caching and tags.

use std::collections::BTreeMap;

/// The largest number of tags of an object, as in S3.
pub const MAX_TAGS: usize = 10;

/// A server-side encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sse {
    /// With a key of the store: `AES256`.
    Aes256,
    /// With a key of a key management service.
    Kms,
    /// Two layers, with a key of a key management service.
    KmsDsse,
}

impl Sse {
    /// The name in requests and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::Kms => "aws:kms",
            Self::KmsDsse => "aws:kms:dsse",
        }
    }

    /// Whether a key of a key management service can be named.
    pub const fn has_key(self) -> bool {
        matches!(self, Self::Kms | Self::KmsDsse)
    }
}

/// Settings that are signed into every new object of a policy. `None`, or no tags, means the
/// bucket's defaults.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ObjectSettings {
    /// The server-side encryption.
    pub sse: Option<Sse>,
    /// The key of [`Sse::Kms`]; `None` means the bucket's default.
    pub kms_key_id: Option<String>,
    /// The storage class, for example `STANDARD_IA`.
    pub storage_class: Option<String>,
    /// The `Cache-Control` of downloads.
    pub cache_control: Option<String>,
    /// The object's tags.
    pub tags: BTreeMap<String, String>,
}
