//! `DELETE /api/uploads/{id}`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id};
use crate::http::openapi::NotFound;
use crate::http::problem::ApiError;

/// End an upload
///
/// Pending and expired: cancelled. Uploaded and missing: removed, and the object is
/// deleted afterwards. One in a final state stays as it is.
#[utoipa::path(delete, path = "/api/uploads/{id}", operation_id = "delete_upload",
    tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload")),
    responses((status = 204, description = "Ended"), NotFound))]
pub async fn handle(
    caller: Caller,
    Id(id): Id<UploadId>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.app.delete_upload(&caller.owner, id).await?;
    Ok(HttpResponse::NoContent().finish())
}
