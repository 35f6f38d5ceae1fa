//! `POST /api/uploads/{id}/complete`

use actix_web::web::Data;

use super::body::EmptyBody;
use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Id, Json, OptionalJson, UploadCaller};
use crate::http::openapi::{BadBody, NotFound, PartsIncomplete};
use crate::http::problem::ApiError;
use crate::http::views::UploadView;

/// Complete a multipart upload
///
/// The service uses the part list of the store, so the client sends no ETags. All parts must be
/// stored and have the right size. Repeat the request if the response was lost. If the status is
/// `rejected`, `reason` is the rule that was violated.
#[utoipa::path(post, path = "/api/uploads/{id}/complete", operation_id = "complete_upload",
    tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload")),
    responses((status = 200, description = "The upload after the completion", body = UploadView),
        BadBody, NotFound, PartsIncomplete))]
pub async fn handle(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    _: OptionalJson<EmptyBody>,
    state: Data<HttpState>,
) -> Result<Json<UploadView>, ApiError> {
    let upload = state.app.complete_upload(&caller, id, None).await?;
    Ok(Json(UploadView::of(upload, &state.app)))
}
