//! What clients see: the wire shapes, mapped field by field from the domain, so that a
//! new field there breaks the build here.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::create_upload::Created;
use crate::app::multipart::SignedPart;
use crate::app::tracks::WithUpload;
use crate::db::tracks::EMPTY;
use crate::db::{Page, Seal};
use crate::domain::run::{Counters, Finding, Run, RunRequest};
use crate::domain::upload::{Declared, State, Verified};
use crate::domain::{Checksum, PartPlan, Status, Track, Upload};
use crate::storage::Part;
use crate::storage::presign::Signed;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct PageView<T> {
    /// The rows.
    pub items: Vec<T>,
    /// For `cursor` of the next page; null on the last.
    pub next_cursor: Option<String>,
}

impl<T> PageView<T> {
    /// A page, each row mapped, its cursor sealed.
    pub fn of<R>(page: Page<R>, view: impl FnMut(R) -> T, seal: &Seal) -> Self {
        let Page { items, next } = page.map(view);
        Self { items, next_cursor: next.map(|cursor| cursor.encode(seal)) }
    }
}

/// A checksum of a whole file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Checksum)]
pub struct ChecksumView {
    /// `sha256`, `crc32`, `crc32c`, `crc64nvme` or `md5`.
    #[schema(example = "sha256")]
    pub algorithm: &'static str,
    /// Base64.
    #[schema(example = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=")]
    pub value: String,
}

impl From<&Checksum> for ChecksumView {
    fn from(checksum: &Checksum) -> Self {
        Self { algorithm: checksum.algorithm().name(), value: checksum.value() }
    }
}

/// A signed request, to be sent to the store just so.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SignedRequest)]
pub struct RequestView {
    /// The HTTP method.
    #[schema(example = "PUT")]
    pub method: &'static str,
    /// Carries the signature: keep it out of logs.
    #[schema(
        example = "https://s3.example.com/uploads/tracks/f/0190a6f2-7b3c-7def-8123-456789abcdef?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=..."
    )]
    pub url: String,
    /// Send exactly these, and no other `x-amz-*`; host and content-length set themselves.
    #[schema(example = json!({"content-type": "audio/mpeg"}))]
    pub headers: BTreeMap<String, String>,
    /// For a form upload: fields to send before the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<BTreeMap<String, String>>,
    /// When the store stops taking it.
    pub expires_at: DateTime<Utc>,
}

impl From<Signed> for RequestView {
    fn from(signed: Signed) -> Self {
        let Signed { method, url, headers, fields, expires_at } = signed;
        let fields = fields.map(|fields| fields.into_iter().collect());
        Self { method, url, headers, fields, expires_at }
    }
}

/// An upload: one file on its way, arrived, or ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Upload)]
pub struct UploadView {
    /// Its id, which is in its key.
    pub id: Uuid,
    /// The rules it is under.
    #[schema(example = "tracks")]
    pub policy: String,
    /// The track it is for, if any.
    pub track_id: Option<Uuid>,
    /// Where it stands.
    #[schema(value_type = StatusName)]
    pub status: &'static str,
    /// The object's key.
    #[schema(example = "tracks/f/0190a6f2-7b3c-7def-8123-456789abcdef")]
    pub key: String,
    /// The file's name.
    #[schema(example = "song.mp3")]
    pub filename: Option<String>,
    /// As seen, or as declared while nothing was seen.
    #[schema(example = "audio/mpeg")]
    pub content_type: Option<String>,
    /// In bytes; as seen, or as declared while nothing was seen.
    #[schema(example = 4_194_304)]
    pub size: Option<u64>,
    /// As seen, or as declared while nothing was seen.
    pub checksum: Option<ChecksumView>,
    /// How the bytes come: `put`, `post`, `multipart` or `direct`.
    #[schema(example = "put")]
    pub strategy: &'static str,
    /// The client's own pairs, stored with the object.
    pub metadata: BTreeMap<String, String>,
    /// When the newest URL ends.
    pub expires_at: DateTime<Utc>,
    /// The object's, without quotes.
    pub etag: Option<String>,
    /// The object's, in a bucket that keeps versions.
    pub version_id: Option<String>,
    /// What showed the object: `confirm`, `event`, `scan` or `direct`.
    #[schema(example = "confirm")]
    pub confirmed_by: Option<&'static str>,
    /// Whether the bytes came after it had expired.
    pub late: bool,
    /// Why it was rejected or removed.
    #[schema(example = "too-large")]
    pub reason: Option<&'static str>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When its bytes were verified.
    pub uploaded_at: Option<DateTime<Utc>>,
    /// The request to send, where one was just signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestView>,
    /// How to cut the file, where it is to be sent in parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multipart: Option<MultipartView>,
}

/// How a file is cut into parts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Multipart)]
pub struct MultipartView {
    /// The size of every part but the last, in bytes.
    #[schema(example = 16_777_216)]
    pub part_size: u64,
    /// How many parts there are, numbered from 1.
    #[schema(example = 13)]
    pub part_count: u16,
}

impl From<PartPlan> for MultipartView {
    fn from(plan: PartPlan) -> Self {
        Self { part_size: plan.part_size(), part_count: plan.part_count() }
    }
}

/// Signed requests for parts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SignedParts)]
pub struct SignedPartsView {
    /// In the order asked for.
    pub parts: Vec<SignedPartView>,
}

impl From<Vec<SignedPart>> for SignedPartsView {
    fn from(parts: Vec<SignedPart>) -> Self {
        Self { parts: parts.into_iter().map(Into::into).collect() }
    }
}

/// A signed request for one part.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SignedPart)]
pub struct SignedPartView {
    /// The part's number.
    #[schema(example = 1)]
    pub part_number: u16,
    /// The request to send.
    #[serde(flatten)]
    pub request: RequestView,
}

impl From<SignedPart> for SignedPartView {
    fn from(part: SignedPart) -> Self {
        let SignedPart { number, request } = part;
        Self { part_number: number, request: request.into() }
    }
}

/// What the store holds of an upload in parts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HeldParts)]
pub struct HeldPartsView {
    /// Ascending by number.
    pub parts: Vec<HeldPartView>,
}

impl From<Vec<Part>> for HeldPartsView {
    fn from(parts: Vec<Part>) -> Self {
        Self { parts: parts.into_iter().map(Into::into).collect() }
    }
}

/// One part that the store holds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HeldPart)]
pub struct HeldPartView {
    /// The part's number.
    #[schema(example = 1)]
    pub part_number: u16,
    /// In bytes.
    #[schema(example = 16_777_216)]
    pub size: u64,
    /// Without quotes.
    pub etag: String,
}

impl From<Part> for HeldPartView {
    fn from(part: Part) -> Self {
        let Part { number, etag, size, last_modified: _ } = part;
        Self { part_number: number, size, etag }
    }
}

impl From<Upload> for UploadView {
    fn from(upload: Upload) -> Self {
        let multipart = upload.parts().map(Into::into);
        let Upload {
            id,
            owner: _,
            policy,
            slot,
            key,
            declared: Declared { filename, content_type, size, checksum },
            strategy,
            write_once: _,
            metadata,
            url_expires_at,
            multipart_id: _,
            part_size: _,
            state,
            deletion: _,
            version: _,
            created_at,
            updated_at,
        } = upload;
        let seen = state.facts();
        let verified = state.verified();
        Self {
            id: id.0,
            policy: policy.as_str().to_owned(),
            track_id: slot.map(|slot| slot.track.0),
            status: state.status().name(),
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
            confirmed_by: verified.map(|verified| verified.confirmed_by.name()),
            late: verified.is_some_and(|verified| verified.late),
            reason: reason(&state),
            created_at,
            updated_at,
            uploaded_at: verified.map(|Verified { at, .. }| *at),
            request: None,
            multipart,
        }
    }
}

fn reason(state: &State) -> Option<&'static str> {
    match state {
        State::Rejected { reason, .. } => Some(reason.name()),
        State::Removed { reason, .. } => Some(reason.name()),
        State::Pending
        | State::Uploaded(_)
        | State::Expired
        | State::Cancelled
        | State::Missing(_) => None,
    }
}

impl From<Created> for UploadView {
    fn from(created: Created) -> Self {
        let Created { upload, request } = created;
        Self { request: request.map(Into::into), ..upload.into() }
    }
}

/// The states of an upload.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Status)]
pub enum StatusName {
    /// Waiting for bytes.
    Pending,
    /// The bytes are there and pass the rules.
    Uploaded,
    /// The deadline passed without bytes.
    Expired,
    /// Bytes came and broke a rule.
    Rejected,
    /// The client gave up.
    Cancelled,
    /// Verified bytes are gone.
    Missing,
    /// Not wanted any more.
    Removed,
}

/// A track: the record that a file belongs to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Track)]
pub struct TrackView {
    /// Its id.
    pub id: Uuid,
    /// 1 to 100 characters.
    #[schema(example = "Blue in Green")]
    pub title: String,
    /// 1 to 100 characters.
    #[schema(example = "Miles Davis")]
    pub artist_name: String,
    /// The day of release.
    #[schema(example = "1959-08-17")]
    pub release_date: Option<NaiveDate>,
    /// The path of the file route, or null until bytes are verified.
    #[schema(example = "/api/tracks/0190a6f2-7b3c-7def-8123-456789abcdef/file")]
    pub file: Option<String>,
    /// The newest upload's status, or `empty`.
    #[schema(example = "uploaded")]
    pub status: &'static str,
    /// The newest upload.
    pub upload: Option<UploadView>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl From<WithUpload> for TrackView {
    fn from((track, upload): WithUpload) -> Self {
        let Track {
            id,
            owner: _,
            title,
            artist_name,
            release_date,
            latest_upload: _,
            bound,
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
            file: bound.map(|_| format!("/api/tracks/{id}/file")),
            status: status.map_or(EMPTY, Status::name),
            upload: upload.map(Into::into),
            created_at,
            updated_at,
        }
    }
}

/// A URL for a track's file, and the upload that it made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PresignedUrl)]
pub struct PresignedUrlView {
    /// Carries the signature: keep it out of logs.
    pub url: String,
    /// The HTTP method.
    #[schema(example = "PUT")]
    pub method: &'static str,
    /// Send exactly these, and no other `x-amz-*`; host and content-length set themselves.
    pub headers: BTreeMap<String, String>,
    /// When the store stops taking it.
    pub expires_at: DateTime<Utc>,
    /// The upload.
    pub upload: UploadView,
}

impl PresignedUrlView {
    /// The signed request of a new upload, beside the upload.
    pub fn new(signed: Signed, upload: Upload) -> Self {
        let Signed { method, url, headers, fields: _, expires_at } = signed;
        Self { url, method, headers, expires_at, upload: upload.into() }
    }
}

/// A URL to download from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FileUrl)]
pub struct FileUrlView {
    /// Carries the signature: keep it out of logs.
    pub url: String,
    /// When the store stops honouring it.
    pub expires_at: DateTime<Utc>,
}

impl From<Signed> for FileUrlView {
    fn from(signed: Signed) -> Self {
        let Signed { method: _, url, headers: _, fields: _, expires_at } = signed;
        Self { url, expires_at }
    }
}

/// A reconciliation run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Run)]
pub struct RunView {
    /// Its id.
    pub id: Uuid,
    /// `incremental` or `audit`.
    #[schema(example = "audit")]
    pub mode: &'static str,
    /// `schedule`, `api`, `cli` or `startup`.
    #[schema(example = "api")]
    pub trigger: &'static str,
    /// Whether it only looks.
    pub dry_run: bool,
    /// `running`, `succeeded`, `failed`, `stopped` or `cancelled`.
    #[schema(example = "succeeded")]
    pub status: &'static str,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// What it changed so far.
    pub counters: Counters,
    /// Why it failed or stopped.
    pub error: Option<String>,
}

impl From<Run> for RunView {
    fn from(run: Run) -> Self {
        let Run { id, request, status, counters, error, started_at, finished_at } = run;
        let RunRequest { mode, policy: _, dry_run, force: _, trigger } = request;
        Self {
            id: id.0,
            mode: mode.name(),
            trigger: trigger.name(),
            dry_run,
            status: status.name(),
            started_at,
            finished_at,
            counters,
            error,
        }
    }
}

/// What a run saw.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Finding)]
pub struct FindingView {
    /// `missing`, `orphan`, `foreign`, `overwritten`, `late`, `abandoned_multipart` or
    /// `rejected`.
    #[schema(example = "orphan")]
    pub kind: &'static str,
    /// Under which policy.
    #[schema(example = "tracks")]
    pub policy: String,
    /// The object's key.
    pub key: String,
    /// The upload, where there is one.
    pub upload_id: Option<Uuid>,
    /// The object's size in bytes, where it is known.
    pub size: Option<u64>,
    /// A few words more: the rule that was broken, a multipart upload's id, or `delete` for
    /// the object of an ended upload that the run deletes (a dry run: would delete).
    pub detail: Option<String>,
    /// When it was seen.
    pub found_at: DateTime<Utc>,
}

impl From<Finding> for FindingView {
    fn from(finding: Finding) -> Self {
        let Finding { kind, policy, key, upload, size, detail, found_at } = finding;
        Self {
            kind: kind.name(),
            policy: policy.as_str().to_owned(),
            key,
            upload_id: upload.map(|id| id.0),
            size,
            detail,
            found_at,
        }
    }
}
