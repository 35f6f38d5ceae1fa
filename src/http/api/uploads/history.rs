//! `GET /api/uploads/{id}/history`

use actix_web::web::Data;

use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id, Json};
use crate::http::openapi::NotFound;
use crate::http::problem::ApiError;
use crate::http::views::HistoryView;

/// Get the history of an upload
///
/// Returns every change of the status, oldest first, with its cause and its reason. A new upload
/// has no changes. If there are more than 1000 changes, the newest 1000 are returned. The history
/// is deleted with the upload. Changes by versions before 0.2 were not recorded.
#[utoipa::path(get, path = "/api/uploads/{id}/history", operation_id = "get_upload_history",
    tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload")),
    responses((status = 200, description = "The changes", body = HistoryView), NotFound))]
pub async fn handle(
    caller: Caller,
    Id(id): Id<UploadId>,
    state: Data<HttpState>,
) -> Result<Json<HistoryView>, ApiError> {
    Ok(Json(state.app.upload_history(&caller.owner, id).await?.into()))
}
