//! `POST /api/uploads/{id}/parts`

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;

use super::body::PartNumbers;
use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Id, Json, UploadCaller};
use crate::http::openapi::{BadBody, Conflict, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::SignedPartsView;

/// Sign parts
///
/// Returns one request for each part. PUT exactly `part_size` bytes to each URL, and the remaining
/// bytes to the URL of the last part. Sign parts when you need them, and again when a URL has
/// expired. Each call extends the deadline of the upload, but not beyond the policy's `max_url_ttl`
/// after its creation. To extend it further, call `presign`.
#[utoipa::path(post, path = "/api/uploads/{id}/parts", operation_id = "sign_parts",
    tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload")),
    request_body = PartNumbers,
    responses((status = 200, description = "Signed", body = SignedPartsView,
        headers(("Cache-Control" = String, description = "no-store"))),
        BadBody, NotFound, Conflict))]
pub async fn handle(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    Json(body): Json<PartNumbers>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let PartNumbers { part_numbers, expires_in } = body;
    let parts = state.app.sign_parts(&caller, id, &part_numbers, expires_in).await?;
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(SignedPartsView::from(parts)))
}
