//! Conversion between a row of `tracks` and the domain's track.

use chrono::NaiveDate;
use entity::track;
use sea_orm::ActiveValue::Set;
use uuid::Uuid;

use crate::db::{DbError, Result};
use crate::domain::attachment::EMPTY;
use crate::domain::{Owner, Track, TrackId, UploadId};

/// The value of `release_order` for a track without a release date. It sorts the track after all
/// others.
const NO_DATE: NaiveDate = match NaiveDate::from_ymd_opt(9999, 12, 31) {
    Some(date) => date,
    None => NaiveDate::MAX,
};

/// The fields of a track that a client may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFields {
    /// 1 to 100 characters.
    pub title: String,
    /// 1 to 100 characters.
    pub artist_name: String,
    /// The release date.
    pub release_date: Option<NaiveDate>,
}

pub(super) fn set_fields(fields: TrackFields) -> track::ActiveModel {
    let TrackFields { title, artist_name, release_date } = fields;
    track::ActiveModel {
        title_order: Set(title.to_lowercase()),
        artist_order: Set(artist_name.to_lowercase()),
        release_order: Set(release_date.unwrap_or(NO_DATE)),
        title: Set(title),
        artist_name: Set(artist_name),
        release_date: Set(release_date),
        ..Default::default()
    }
}

fn corrupt(column: &'static str, id: Uuid) -> DbError {
    DbError::Corrupt { table: "tracks", column, id: id.to_string() }
}

impl TryFrom<track::Model> for Track {
    type Error = DbError;

    fn try_from(row: track::Model) -> Result<Self> {
        let track::Model {
            id,
            owner,
            title,
            artist_name,
            release_date,
            title_order: _,
            artist_order: _,
            release_order: _,
            status,
            latest_upload_id,
            bound_upload_id,
            version,
            created_at,
            updated_at,
        } = row;
        let status = match status.as_str() {
            EMPTY => None,
            name => Some(name.parse().map_err(|()| corrupt("status", id))?),
        };
        Ok(Self {
            id: TrackId(id),
            owner: Owner::named(owner),
            title,
            artist_name,
            release_date,
            latest_upload: latest_upload_id.map(UploadId),
            current_upload: bound_upload_id.map(UploadId),
            status,
            version,
            created_at,
            updated_at,
        })
    }
}
