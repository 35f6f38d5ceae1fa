//! Uploads, and the signed requests for them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    AlgorithmName, AnnotationsView, ConfirmedByName, MultipartView, ReasonName, StatusName,
    StrategyName,
};
use crate::app::App;
use crate::app::create_upload::Created;
use crate::domain::upload::{Declared, Strategy, Verified};
use crate::domain::{Checksum, Status, Upload};
use crate::http::extract::Links;
use crate::storage::signer::SignedRequest;

/// A checksum of a whole file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Checksum)]
pub struct ChecksumView {
    /// The algorithm.
    #[schema(value_type = AlgorithmName)]
    pub algorithm: &'static str,
    /// The checksum in base64.
    #[schema(example = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=")]
    pub value: String,
}

impl From<&Checksum> for ChecksumView {
    fn from(checksum: &Checksum) -> Self {
        Self { algorithm: checksum.algorithm().name(), value: checksum.value() }
    }
}

/// A signed request to the store, or for a direct upload the request to this service.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SignedRequest)]
pub struct RequestView {
    /// The HTTP method.
    #[schema(example = "PUT")]
    pub method: &'static str,
    /// Contains the signature. Do not log it. For a direct upload, the path of
    /// `/api/uploads/{id}/content`, or its URL if `server.public_url` is configured.
    #[schema(
        example = "https://s3.example.com/uploads/tracks/f/0190a6f2-7b3c-7def-8123-456789abcdef?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=..."
    )]
    pub url: String,
    /// Send exactly these headers and no other `x-amz-*`. The HTTP client sets host and
    /// content-length itself.
    #[schema(example = json!({"content-type": "audio/mpeg"}))]
    pub headers: BTreeMap<String, String>,
    /// For a form upload: the fields to send before the file.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<BTreeMap<String, String>>,
    /// When the URL expires.
    pub expires_at: DateTime<Utc>,
}

impl From<SignedRequest> for RequestView {
    fn from(signed: SignedRequest) -> Self {
        let SignedRequest { method, url, headers, fields, expires_at } = signed;
        let fields = fields.map(|fields| fields.into_iter().collect());
        Self { method, url, headers, fields, expires_at }
    }
}

/// An upload of one file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Upload)]
pub struct UploadView {
    /// The id of the upload. The key contains it.
    pub id: Uuid,
    /// The policy.
    #[schema(example = "tracks")]
    pub policy: String,
    /// The subject that the upload is attached to, if any.
    #[schema(required, example = "album:42:cover")]
    pub attach_to: Option<String>,
    /// The id of the track, if `attach_to` is `track:{id}`.
    #[schema(required)]
    pub track_id: Option<Uuid>,
    /// The status.
    #[schema(value_type = StatusName)]
    pub status: &'static str,
    /// The store of the object: the name of the section `[storage.<name>]`. Null if the process
    /// that responds has not read the location of the upload yet.
    #[schema(required, example = "default")]
    pub store: Option<String>,
    /// The key of the object.
    #[schema(example = "tracks/f/0190a6f2-7b3c-7def-8123-456789abcdef")]
    pub key: String,
    /// The name of the file.
    #[schema(required, example = "song.mp3")]
    pub filename: Option<String>,
    /// The media type of the object. Until the object is observed, the declared one.
    #[schema(required, example = "audio/mpeg")]
    pub content_type: Option<String>,
    /// The size of the object in bytes. Until the object is observed, the declared one.
    #[schema(required, example = 4_194_304)]
    pub size: Option<u64>,
    /// The checksum of the object. Until the object is observed, the declared one.
    #[schema(required)]
    pub checksum: Option<ChecksumView>,
    /// How the file is uploaded.
    #[schema(value_type = StrategyName)]
    pub strategy: &'static str,
    /// The metadata from the client, stored with the object.
    pub metadata: BTreeMap<String, String>,
    /// When the newest URL expires.
    pub expires_at: DateTime<Utc>,
    /// The ETag of the object, without quotes.
    #[schema(required)]
    pub etag: Option<String>,
    /// The version of the object, in a bucket with versioning.
    #[schema(required)]
    pub version_id: Option<String>,
    /// How the service learned of the object.
    #[schema(required, value_type = Option<ConfirmedByName>)]
    pub confirmed_by: Option<&'static str>,
    /// Whether the file arrived after the upload had expired.
    pub late: bool,
    /// Why the upload was rejected or removed.
    #[schema(required, value_type = Option<ReasonName>)]
    pub reason: Option<&'static str>,
    /// Why the file was rejected, in one sentence.
    #[schema(required, example = "clamav: Eicar-Test-Signature")]
    pub detail: Option<String>,
    /// The results of inspectors about the file.
    pub annotations: AnnotationsView,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When the file was verified, and accepted by every inspector of its policy.
    #[schema(required)]
    pub uploaded_at: Option<DateTime<Utc>>,
    /// The request that uploads the file. It is present only in responses that sign one.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestView>,
    /// How to split the file. It is present only in multipart uploads.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multipart: Option<MultipartView>,
}

impl UploadView {
    /// The view of an upload.
    pub fn of(upload: Upload, app: &App) -> Self {
        let store = app.store_name(&upload);
        let multipart = upload.parts().map(Into::into);
        let track = upload.track();
        let Upload {
            id,
            owner: _,
            token: _,
            policy,
            location: _,
            slot,
            key,
            declared: Declared { filename, content_type, size, checksum, max_size: _ },
            strategy,
            write_once: _,
            metadata,
            url_expires_at,
            multipart_id: _,
            part_size: _,
            state,
            detail,
            annotations,
            deletion: _,
            version: _,
            created_at,
            updated_at,
        } = upload;
        let seen = state.facts();
        let arrived = state.arrived();
        Self {
            id: id.0,
            policy: policy.as_str().to_owned(),
            attach_to: slot.map(|slot| slot.subject.to_string()),
            track_id: track.map(|track| track.0),
            status: state.status().name(),
            store,
            key: key.as_str().to_owned(),
            filename,
            content_type: seen.and_then(|facts| facts.content_type.clone()).or(content_type),
            size: seen.map(|facts| facts.size).or(size),
            checksum: seen
                .and_then(|facts| facts.checksum.as_ref())
                .or(checksum.as_ref())
                .map(Into::into),
            strategy: strategy.name(),
            metadata,
            expires_at: url_expires_at,
            etag: seen.map(|facts| facts.etag.clone()),
            version_id: seen.and_then(|facts| facts.version_id.clone()),
            confirmed_by: arrived.map(|arrived| arrived.confirmed_by.name()),
            late: arrived.is_some_and(|arrived| arrived.late),
            reason: state.reason(),
            detail,
            annotations: annotations.into(),
            created_at,
            updated_at,
            uploaded_at: state.verified().map(|Verified { at, .. }| *at),
            request: None,
            multipart,
        }
    }

    /// The view of a new or renewed upload, with the request that uploads the file.
    pub fn created(created: Created, links: &Links, app: &App) -> Self {
        let Created { upload, request } = created;
        let to_this_service = upload.strategy == Strategy::Direct;
        let request = match request {
            Some(signed) => Some(signed.into()),
            None if to_this_service && upload.status() == Status::Pending => {
                Some(RequestView::of_content(&upload, links))
            }
            None => None,
        };
        Self { request, ..Self::of(upload, app) }
    }
}

impl RequestView {
    /// The request that sends the file of a direct upload to this service.
    fn of_content(upload: &Upload, links: &Links) -> Self {
        let content_type = upload.declared.content_type.clone();
        Self {
            method: "PUT",
            url: links.upload_content(upload.id),
            headers: content_type
                .map(|value| ("content-type".to_owned(), value))
                .into_iter()
                .collect(),
            fields: None,
            expires_at: upload.url_expires_at,
        }
    }
}
