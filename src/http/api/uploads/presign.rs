//! `POST /api/uploads/{id}/presign`

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;

use super::body::Renewal;
use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Id, Links, OptionalJson, UploadCaller};
use crate::http::openapi::{BadBody, Conflict, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::UploadView;

/// Presign an upload again
///
/// Works for pending and expired uploads. The upload gets a new deadline. Its id and its key do not
/// change.
#[utoipa::path(post, path = "/api/uploads/{id}/presign", operation_id = "presign_upload",
    tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload")),
    request_body = Option<Renewal>,
    responses((status = 200, description = "Signed, with `request`", body = UploadView,
        headers(("Cache-Control" = String, description = "no-store"))),
        BadBody, NotFound, Conflict))]
pub async fn handle(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    OptionalJson(body): OptionalJson<Renewal>,
    links: Links,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let renewed = state.app.renew_upload(&caller, id, body.expires_in).await?;
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(UploadView::created(renewed, &links, &state.app)))
}
