//! A track: the example record that a file belongs to. Its file is an attachment
//! ([`super::attachment`]).

use chrono::NaiveDate;

use super::clock::Timestamp;
use super::ids::{Owner, TrackId, UploadId};
use super::upload::Status;

/// The largest length of a title and of an artist name, in characters.
pub const MAX_NAME_CHARS: usize = 100;

/// One track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Its id.
    pub id: TrackId,
    /// Its owner.
    pub owner: Owner,
    /// The title, 1 to 100 characters.
    pub title: String,
    /// The name of the artist, 1 to 100 characters.
    pub artist_name: String,
    /// The day of release.
    pub release_date: Option<NaiveDate>,
    /// The newest upload.
    pub latest_upload: Option<UploadId>,
    /// The upload that is served.
    pub current_upload: Option<UploadId>,
    /// The newest upload's status; `None` without one.
    pub status: Option<Status>,
    /// Incremented by every write.
    pub version: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}
