//! What a client declares about a file, and how its bytes are sent.

use std::str::FromStr;

use crate::domain::checksum::Checksum;

/// The values that the client declared about the file. All are optional. Declared values are signed
/// into the URL and checked again on arrival.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The file's name for downloads, without a path.
    pub filename: Option<String>,
    /// Its media type.
    pub content_type: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The checksum of the whole file.
    pub checksum: Option<Checksum>,
    /// The largest size in bytes that the upload's token allows, if it has a limit. The policy's
    /// limit also applies.
    pub max_size: Option<u64>,
}

impl Declared {
    /// Whether nothing was declared.
    pub fn is_empty(&self) -> bool {
        let Self { filename, content_type, size, checksum, max_size: _ } = self;
        filename.is_none() && content_type.is_none() && size.is_none() && checksum.is_none()
    }
}

/// How the bytes are sent to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// One presigned PUT.
    Put,
    /// A browser form with a signed POST policy.
    Post,
    /// A multipart upload with presigned parts.
    Multipart,
    /// Through this service.
    Direct,
    /// Through this service, in pieces of any size, as tus and `FilePond` clients send them.
    Tus,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Self; 5] = [Self::Put, Self::Post, Self::Multipart, Self::Direct, Self::Tus];

    /// The strategies that a caller can choose.
    pub const CHOICES: [Self; 4] = [Self::Put, Self::Post, Self::Multipart, Self::Direct];

    /// The name in the API and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Post => "post",
            Self::Multipart => "multipart",
            Self::Direct => "direct",
            Self::Tus => "tus",
        }
    }
}

impl FromStr for Strategy {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|strategy| strategy.name() == name).ok_or(())
    }
}
