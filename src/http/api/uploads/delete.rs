//! `DELETE /api/uploads/{id}`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Id, UploadCaller};
use crate::http::openapi::NotFound;
use crate::http::problem::ApiError;

/// Delete an upload
///
/// A `pending` or `expired` upload becomes `cancelled`. An `inspecting`, `uploaded` or `missing`
/// upload becomes `removed`, and its object is deleted later. An upload in a final state does not
/// change.
#[utoipa::path(delete, path = "/api/uploads/{id}", operation_id = "delete_upload",
    tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload")),
    responses((status = 204, description = "The upload is in a final state"), NotFound))]
pub async fn handle(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.app.delete_upload(&caller, id).await?;
    Ok(HttpResponse::NoContent().finish())
}
