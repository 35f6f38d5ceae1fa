//! How the store keeps the objects of a policy, besides their bytes and their type.

use std::collections::BTreeMap;

/// The most tags of an object, as on S3.
pub const MAX_TAGS: usize = 10;

/// The name of a server-side encryption, as S3 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sse {
    /// With a key of the store.
    Aes256,
    /// With a key of a key management service.
    Kms,
    /// Twice, with a key of a key management service.
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

/// Settings that are signed with every new object of a policy. `None` and no tags: the bucket's own
/// defaults.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ObjectSettings {
    /// The server-side encryption.
    pub sse: Option<Sse>,
    /// The key of [`Sse::Kms`]; `None` is the bucket's.
    pub kms_key_id: Option<String>,
    /// For example `STANDARD_IA`.
    pub storage_class: Option<String>,
    /// The `Cache-Control` of downloads.
    pub cache_control: Option<String>,
    /// The object's tags.
    pub tags: BTreeMap<String, String>,
}
