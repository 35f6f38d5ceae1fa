//! What is known about the object of an upload, and how it became known.

use std::str::FromStr;

use crate::domain::checksum::Checksum;
use crate::domain::clock::Timestamp;

/// The source that reported the object first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfirmedBy {
    /// The client's confirmation.
    Confirm,
    /// An event of the bucket.
    Event,
    /// The reconciler.
    Scan,
    /// A direct upload.
    Direct,
}

impl ConfirmedBy {
    /// Every source.
    pub const ALL: [Self; 4] = [Self::Confirm, Self::Event, Self::Scan, Self::Direct];

    /// The name in the API and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Event => "event",
            Self::Scan => "scan",
            Self::Direct => "direct",
        }
    }
}

impl FromStr for ConfirmedBy {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|by| by.name() == name).ok_or(())
    }
}

/// The facts about an observed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Its ETag, without quotes. Not always an MD5.
    pub etag: String,
    /// Its version, in a bucket with versioning.
    pub version_id: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type, detected from its first bytes, otherwise as stored.
    pub content_type: Option<String>,
    /// Its checksum, if one was declared or the service computed one.
    pub checksum: Option<Checksum>,
}

impl ObjectFacts {
    /// Whether two observations are of the same bytes; `None` if that is unknown.
    pub fn same_bytes(&self, other: &Self) -> Option<bool> {
        if self.etag == other.etag {
            return Some(true);
        }
        if self.size != other.size {
            return Some(false);
        }
        match (&self.checksum, &other.checksum) {
            (Some(a), Some(b)) if a.algorithm() == b.algorithm() => Some(a == b),
            _ => None,
        }
    }
}

/// A verified object, and how it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The object.
    pub facts: ObjectFacts,
    /// The source that reported it.
    pub confirmed_by: ConfirmedBy,
    /// Whether the upload had expired before.
    pub late: bool,
    /// When it was verified.
    pub at: Timestamp,
}
