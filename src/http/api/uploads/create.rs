//! `POST /api/uploads`

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::web::Data;

use super::body::UploadBody;
use crate::http::HttpState;
use crate::http::extract::{IdempotencyParams, Idempotent, Json, Links, UploadCaller};
use crate::http::openapi::{BadBody, IdempotencyErrors, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::UploadView;

/// Create an upload
///
/// Returns the request that uploads the file to the store. Send it with exactly its `headers`. The
/// upload is committed before the response is sent.
#[utoipa::path(post, path = "/api/uploads", operation_id = "create_upload", tag = "uploads",
    params(IdempotencyParams),
    request_body = UploadBody,
    responses((status = 201, description = "Created, with `request`", body = UploadView,
        headers(("Location" = String, description = "The path of the upload"),
            ("Cache-Control" = String, description = "no-store"))),
            BadBody, NotFound, IdempotencyErrors))]
pub async fn handle(
    caller: UploadCaller,
    Idempotent { key, body: Json(body) }: Idempotent<Json<UploadBody>>,
    links: Links,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let new = body.try_into()?;
    let created = state.app.create_upload_once(&caller, key.as_ref(), new).await?;
    let path = links.upload(created.upload.id);
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, path))
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(UploadView::created(created, &links, &state.app)))
}
