//! `POST /api/uploads/{id}/complete`

use actix_web::web::Data;

use super::body::Nothing;
use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id, Json, OptionalJson};
use crate::http::openapi::{BadBody, NotFound, PartsIncomplete};
use crate::http::problem::ApiError;
use crate::http::views::UploadView;

/// Make the object from its parts
///
/// From the store's own list, so no ETags are needed. The parts must be all of them, each
/// of its size. Send it again where the answer was lost. The answer may say `rejected`:
/// then `reason` says why.
#[utoipa::path(post, path = "/api/uploads/{id}/complete", operation_id = "complete_upload",
    tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload")),
    responses((status = 200, description = "The upload as it is now", body = UploadView),
        BadBody, NotFound, PartsIncomplete))]
pub async fn handle(
    caller: Caller,
    Id(id): Id<UploadId>,
    _: OptionalJson<Nothing>,
    state: Data<HttpState>,
) -> Result<Json<UploadView>, ApiError> {
    Ok(Json(state.app.complete_upload(&caller.owner, id).await?.into()))
}
