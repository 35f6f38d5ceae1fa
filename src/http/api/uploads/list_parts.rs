//! `GET /api/uploads/{id}/parts`

use actix_web::web::Data;

use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Id, Json, UploadCaller};
use crate::http::openapi::{NotFound, NotInParts, PartsGone};
use crate::http::problem::ApiError;
use crate::http::views::HeldPartsView;

/// List the parts that the store has
///
/// A client that resumes an upload sends only the parts that are not in this list. The list is
/// empty after the upload has ended.
#[utoipa::path(get, path = "/api/uploads/{id}/parts", operation_id = "list_parts",
    tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload")),
    responses((status = 200, description = "The parts in ascending order", body = HeldPartsView),
        NotInParts, NotFound, PartsGone))]
pub async fn handle(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    state: Data<HttpState>,
) -> Result<Json<HeldPartsView>, ApiError> {
    Ok(Json(state.app.held_parts(&caller, id).await?.into()))
}
