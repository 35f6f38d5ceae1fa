//! Tracks, and URLs for their files.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{TrackStatusName, UploadView};
use crate::app::App;
use crate::app::tracks::WithUpload;
use crate::domain::attachment::EMPTY;
use crate::domain::{Status, Track, Upload};
use crate::storage::signer::SignedRequest;

/// A track: a record with a file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Track)]
pub struct TrackView {
    /// The id of the track.
    pub id: Uuid,
    /// 1 to 100 characters.
    #[schema(example = "Blue in Green")]
    pub title: String,
    /// 1 to 100 characters.
    #[schema(example = "Miles Davis")]
    pub artist_name: String,
    /// The release date.
    #[schema(required, example = "1959-08-17")]
    pub release_date: Option<NaiveDate>,
    /// The path of the file. Null until a file is verified.
    #[schema(required, example = "/api/tracks/0190a6f2-7b3c-7def-8123-456789abcdef/file")]
    pub file: Option<String>,
    /// The status of the newest upload, or `empty`.
    #[schema(value_type = TrackStatusName)]
    pub status: &'static str,
    /// The newest upload.
    #[schema(required)]
    pub upload: Option<UploadView>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl TrackView {
    /// The view of a track and its newest upload.
    pub fn of((track, upload): WithUpload, app: &App) -> Self {
        let Track {
            id,
            owner: _,
            title,
            artist_name,
            release_date,
            latest_upload: _,
            current_upload,
            status,
            version: _,
            created_at,
            updated_at,
        } = track;
        Self {
            id: id.0,
            title,
            artist_name,
            release_date,
            file: current_upload.map(|_| format!("/api/tracks/{id}/file")),
            status: status.map_or(EMPTY, Status::name),
            upload: upload.map(|upload| UploadView::of(upload, app)),
            created_at,
            updated_at,
        }
    }
}

/// A URL for a track's file, and its new upload.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PresignedUrl)]
pub struct PresignedUrlView {
    /// Contains the signature. Do not log it.
    pub url: String,
    /// The HTTP method.
    #[schema(example = "PUT")]
    pub method: &'static str,
    /// Send exactly these headers and no other `x-amz-*`. The HTTP client sets host and
    /// content-length itself.
    pub headers: BTreeMap<String, String>,
    /// When the URL expires.
    pub expires_at: DateTime<Utc>,
    /// The upload.
    pub upload: UploadView,
}

impl PresignedUrlView {
    /// The signed request of a new upload, with the upload.
    pub fn new(signed: SignedRequest, upload: Upload, app: &App) -> Self {
        let SignedRequest { method, url, headers, fields: _, expires_at } = signed;
        Self { url, method, headers, expires_at, upload: UploadView::of(upload, app) }
    }
}

/// A URL for a download.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FileUrl)]
pub struct FileUrlView {
    /// Contains the signature. Do not log it.
    pub url: String,
    /// When the URL expires.
    pub expires_at: DateTime<Utc>,
}

impl From<SignedRequest> for FileUrlView {
    fn from(signed: SignedRequest) -> Self {
        let SignedRequest { method: _, url, headers: _, fields: _, expires_at } = signed;
        Self { url, expires_at }
    }
}
