//! `/companion/s3/multipart`: uploads in parts whose size the client chooses.

use std::collections::BTreeMap;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};

use crate::app::create_upload::DividedBy;
use crate::domain::UploadId;
use crate::domain::parts::SentPart;
use crate::domain::upload::{Declared, Strategy};
use crate::http::HttpState;
use crate::http::dialects::{Dialect, require_accepted, storable};
use crate::http::extract::{Id, Json, Links, Query, UploadCaller};
use crate::http::problem::{ApiError, Code};
use crate::storage::Part;

/// A new upload. The client does not send its size.
#[derive(Deserialize)]
pub(super) struct CreateBody {
    filename: Option<String>,
    #[serde(rename = "type")]
    content_type: Option<String>,
    #[serde(default)]
    metadata: serde_json::Map<String, serde_json::Value>,
}

/// The response for a new upload. The paths of later requests contain its id.
#[derive(Serialize)]
pub(super) struct CreatedView {
    key: String,
    #[serde(rename = "uploadId")]
    upload_id: String,
    bucket: String,
}

pub(super) async fn create(
    caller: UploadCaller,
    Json(body): Json<CreateBody>,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<Json<CreatedView>, ApiError> {
    let CreateBody { filename, content_type, metadata } = body;
    let declared = Declared { filename, content_type, ..Declared::default() };
    let mut new = dialect.upload(&caller, declared);
    new.strategy = Some(Strategy::Multipart);
    new.divided_by = DividedBy::Client;
    new.metadata = storable(metadata.into_iter().filter_map(|(name, value)| match value {
        serde_json::Value::String(value) => Some((name, value)),
        serde_json::Value::Number(value) => Some((name, value.to_string())),
        _ => None,
    }));
    let upload = state.app.create_upload(&caller, new).await?.upload;
    Ok(Json(CreatedView {
        key: upload.key.as_str().to_owned(),
        upload_id: upload.id.to_string(),
        bucket: state.app.bucket_of(&upload).await?.to_owned(),
    }))
}

/// A part, in the format of S3's list of parts.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PartView {
    part_number: u16,
    #[serde(rename = "ETag")]
    etag: String,
    #[serde(default)]
    size: u64,
}

pub(super) async fn list(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let parts = state.app.held_parts(&caller, id).await?;
    let quoted = |part: Part| PartView {
        part_number: part.number,
        etag: format!("\"{}\"", part.etag),
        size: part.size,
    };
    let parts: Vec<_> = parts.into_iter().map(quoted).collect();
    Ok(HttpResponse::Ok().json(parts))
}

/// A signed request for a part.
#[derive(Serialize)]
pub(super) struct PartUrl {
    url: String,
    /// The lifetime in seconds.
    expires: i64,
}

pub(super) async fn sign_one(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    request: HttpRequest,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<Json<PartUrl>, ApiError> {
    let number = request.match_info().get("number").unwrap_or_default();
    let number = read_number(number, "partNumber")?;
    let ttl = dialect.url_ttl.num_seconds();
    let parts = state.app.sign_parts(&caller, id, &[number], Some(ttl)).await?;
    let part = parts.into_iter().next().ok_or_else(|| ApiError::new(Code::Internal))?;
    Ok(Json(PartUrl { url: part.request.url, expires: ttl }))
}

/// Signed requests by part number.
#[derive(Serialize)]
pub(super) struct PartUrls {
    #[serde(rename = "presignedUrls")]
    urls: BTreeMap<u16, String>,
}

pub(super) async fn sign_many(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    mut query: Query,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<Json<PartUrls>, ApiError> {
    let numbers = query.text("partNumbers").unwrap_or_default();
    query.ignore_others()?;
    let numbers: Result<Vec<i64>, _> =
        numbers.split(',').map(|text| read_number(text, "partNumbers")).collect();
    let ttl = dialect.url_ttl.num_seconds();
    let parts = state.app.sign_parts(&caller, id, &numbers?, Some(ttl)).await?;
    let urls = parts.into_iter().map(|part| (part.number, part.request.url)).collect();
    Ok(Json(PartUrls { urls }))
}

/// The client's list of its parts.
#[derive(Deserialize)]
pub(super) struct CompleteBody {
    parts: Vec<PartView>,
}

/// The location of the object.
#[derive(Serialize)]
pub(super) struct CompletedView {
    location: String,
    key: String,
    bucket: String,
}

pub(super) async fn complete(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    Json(body): Json<CompleteBody>,
    links: Links,
    state: Data<HttpState>,
) -> Result<Json<CompletedView>, ApiError> {
    let sent = |part: PartView| SentPart {
        number: part.part_number,
        etag: part.etag.trim_matches('"').to_owned(),
    };
    let sent: Vec<_> = body.parts.into_iter().map(sent).collect();
    let upload = state.app.complete_upload(&caller, id, Some(&sent)).await?;
    let upload = require_accepted(upload)?;
    Ok(Json(CompletedView {
        location: links.upload_file(id),
        key: upload.key.as_str().to_owned(),
        bucket: state.app.bucket_of(&upload).await?.to_owned(),
    }))
}

pub(super) async fn abort(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    state: Data<HttpState>,
) -> Result<Json<serde_json::Map<String, serde_json::Value>>, ApiError> {
    state.app.delete_upload(&caller, id).await?;
    Ok(Json(serde_json::Map::new()))
}

fn read_number(text: &str, field: &str) -> Result<i64, ApiError> {
    text.trim()
        .parse()
        .map_err(|_| ApiError::field(field, "Must be part numbers, separated by commas"))
}
