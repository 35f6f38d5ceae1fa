//! A track: the record that a file belongs to, and which of its uploads it is bound to.

use chrono::NaiveDate;

use super::clock::Timestamp;
use super::ids::{Owner, TrackId, UploadId};
use super::upload::Status;

/// The longest title and artist name, in characters.
pub const MAX_NAME_CHARS: usize = 100;

/// The upload whose bytes a track serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The upload.
    pub upload: UploadId,
    /// Its number in the track's sequence.
    pub sequence: i64,
}

/// One track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Its id.
    pub id: TrackId,
    /// Whose it is.
    pub owner: Owner,
    /// 1 to 100 characters.
    pub title: String,
    /// 1 to 100 characters.
    pub artist_name: String,
    /// The day of release.
    pub release_date: Option<NaiveDate>,
    /// The newest upload.
    pub latest_upload: Option<UploadId>,
    /// The upload that is served.
    pub bound: Option<Bound>,
    /// The newest upload's status; `None` without one.
    pub status: Option<Status>,
    /// Raised by every write.
    pub version: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What becomes of a track and of an upload of its own that was just verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// The track takes the upload; the one it had before is superseded.
    Take {
        /// The upload that the track was bound to.
        supersedes: Option<UploadId>,
    },
    /// The track has a newer one: the upload itself is superseded.
    Yield,
}

/// Decides by the sequence alone: ids and clocks say nothing about order.
pub fn bind(bound: Option<Bound>, upload: UploadId, sequence: i64) -> Binding {
    match bound {
        Some(bound) if bound.upload == upload => Binding::Take { supersedes: None },
        Some(bound) if bound.sequence > sequence => Binding::Yield,
        Some(bound) => Binding::Take { supersedes: Some(bound.upload) },
        None => Binding::Take { supersedes: None },
    }
}
