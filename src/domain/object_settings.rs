//! How the objects of a policy are stored: encryption, storage class, caching and tags.

use std::collections::BTreeMap;

/// The largest number of tags of an object, as in S3.
pub const MAX_TAGS: usize = 10;

/// A server-side encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sse {
    /// Encryption with a key that the store manages.
    Aes256,
    /// Encryption with a key of a key management service.
    Kms,
    /// Two layers of encryption, with a key of a key management service.
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

    /// Whether the encryption uses a key of a key management service, which can be chosen.
    pub const fn has_key(self) -> bool {
        matches!(self, Self::Kms | Self::KmsDsse)
    }
}

/// Settings of every new object of a policy. They are signed into its upload request. `None`, or no
/// tags, means the bucket's defaults.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ObjectSettings {
    /// The server-side encryption.
    pub sse: Option<Sse>,
    /// The key for [`Sse::Kms`] or [`Sse::KmsDsse`]; `None` means the bucket's default.
    pub kms_key_id: Option<String>,
    /// The storage class, for example `STANDARD_IA`.
    pub storage_class: Option<String>,
    /// The `Cache-Control` of downloads.
    pub cache_control: Option<String>,
    /// The object's tags.
    pub tags: BTreeMap<String, String>,
}
