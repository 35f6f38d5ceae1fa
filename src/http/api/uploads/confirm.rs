//! `POST /api/uploads/{id}/confirm`

use actix_web::web::Data;

use super::body::EmptyBody;
use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Id, Json, OptionalJson, UploadCaller};
use crate::http::openapi::{BadBody, NotArrived, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::UploadView;

/// Confirm an upload
///
/// Verifies the object now. If the status is `rejected`, `reason` is the rule that was violated.
#[utoipa::path(post, path = "/api/uploads/{id}/confirm", operation_id = "confirm_upload",
    tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload")),
    responses((status = 200, description = "The upload after the verification", body = UploadView),
        BadBody, NotFound, NotArrived))]
pub async fn handle(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    _: OptionalJson<EmptyBody>,
    state: Data<HttpState>,
) -> Result<Json<UploadView>, ApiError> {
    let upload = state.app.confirm_upload(&caller, id).await?;
    Ok(Json(UploadView::of(upload, &state.app)))
}
