//! Why an object was rejected.

use std::str::FromStr;

/// Why an object was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The bytes are a `multipart/form-data` body that contains the file, not the file itself.
    MultipartEnvelope,
    /// The object is stored with a content coding, for example gzip.
    ContentEncoding,
    /// The object has no bytes.
    Empty,
    /// The object is larger than the policy allows.
    TooLarge,
    /// The size differs from the declared size.
    SizeMismatch,
    /// The checksum differs from the declared checksum.
    ChecksumMismatch,
    /// The content has none of the allowed types.
    ContentMismatch,
    /// The bytes arrived after the deadline, and the policy has `late = "reject"`.
    Late,
    /// Other bytes replaced the verified ones.
    Overwritten,
    /// An inspector rejected the file.
    Inspection,
}

impl RejectReason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::MultipartEnvelope,
        Self::ContentEncoding,
        Self::Empty,
        Self::TooLarge,
        Self::SizeMismatch,
        Self::ChecksumMismatch,
        Self::ContentMismatch,
        Self::Late,
        Self::Overwritten,
        Self::Inspection,
    ];

    /// The name in the API and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::MultipartEnvelope => "multipart-envelope",
            Self::ContentEncoding => "content-encoding",
            Self::Empty => "empty",
            Self::TooLarge => "too-large",
            Self::SizeMismatch => "size-mismatch",
            Self::ChecksumMismatch => "checksum-mismatch",
            Self::ContentMismatch => "content-mismatch",
            Self::Late => "late",
            Self::Overwritten => "overwritten",
            Self::Inspection => "inspection",
        }
    }

    /// What is wrong, as a sentence.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::MultipartEnvelope => {
                "The stored object is a form that contains the file, not the file itself"
            }
            Self::ContentEncoding => "The file is stored with a Content-Encoding",
            Self::Empty => "The file is empty",
            Self::TooLarge => "The file is larger than the policy allows",
            Self::SizeMismatch => "The size of the file differs from the declared size",
            Self::ChecksumMismatch => "The checksum of the file differs from the declared one",
            Self::ContentMismatch => "The type of the file's content is not allowed",
            Self::Late => "The file arrived after the deadline, and the policy refuses late files",
            Self::Overwritten => "Other bytes replaced the verified file",
            Self::Inspection => "An inspector rejected the file",
        }
    }
}

impl FromStr for RejectReason {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|reason| reason.name() == name).ok_or(())
    }
}
