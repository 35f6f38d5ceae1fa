//! `GET /api/uploads/{id}`

use actix_web::web::{self, Data};

use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id};
use crate::http::openapi::NotFound;
use crate::http::problem::ApiError;
use crate::http::views::UploadView;

/// One upload
#[utoipa::path(get, path = "/api/uploads/{id}", operation_id = "get_upload", tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload")),
    responses((status = 200, description = "The upload", body = UploadView), NotFound))]
pub async fn handle(
    caller: Caller,
    Id(id): Id<UploadId>,
    state: Data<HttpState>,
) -> Result<web::Json<UploadView>, ApiError> {
    Ok(web::Json(state.app.upload(&caller.owner, id).await?.into()))
}
