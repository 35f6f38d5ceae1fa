//! An attachment: the one file of a record. The record is a track of this service, or any record of
//! a back end. A subject names it.
//!
//! Every upload for a subject takes the next number of the subject's sequence. The verified upload
//! with the highest number is the current one, which is served.

use super::clock::Timestamp;
use super::ids::{Owner, UploadId};
use super::subject::Subject;
use super::upload::Status;

/// The name of the status of a subject without uploads.
pub const EMPTY: &str = "empty";

/// The upload whose bytes a subject serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// The upload.
    pub upload: UploadId,
    /// Its number in the subject's sequence.
    pub sequence: i64,
}

/// The file of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its owner.
    pub owner: Owner,
    /// The subject.
    pub subject: Subject,
    /// The newest upload.
    pub latest_upload: Option<UploadId>,
    /// The upload that is served.
    pub current: Option<Current>,
    /// The newest upload's status; `None` without one.
    pub status: Option<Status>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What happens to a subject when one of its uploads is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// The upload becomes the current one; the previous one is superseded.
    Take {
        /// The previous current upload.
        supersedes: Option<UploadId>,
    },
    /// The subject has a newer current upload: the verified upload itself is superseded.
    Yield,
}

/// Decides whether a verified upload becomes the current one. Only the sequence numbers decide,
/// because ids and clocks of different processes do not show the order of the uploads.
pub fn bind(current: Option<Current>, upload: UploadId, sequence: i64) -> Binding {
    match current {
        Some(current) if current.upload == upload => Binding::Take { supersedes: None },
        Some(current) if current.sequence > sequence => Binding::Yield,
        Some(current) => Binding::Take { supersedes: Some(current.upload) },
        None => Binding::Take { supersedes: None },
    }
}
