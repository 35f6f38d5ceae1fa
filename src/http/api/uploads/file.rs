//! `GET /api/uploads/{id}/file`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Download, DownloadParams, DownloadResponses, Id, UploadCaller};
use crate::http::openapi::{BadQuery, FilePending, NotAcceptable, NotFound};
use crate::http::problem::ApiError;

/// Download an upload's file
///
/// Redirects to a signed URL of the store. Only verified files are served.
#[utoipa::path(get, path = "/api/uploads/{id}/file", operation_id = "get_upload_file",
    tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload"), DownloadParams),
    responses(DownloadResponses, BadQuery, NotFound, NotAcceptable, FilePending))]
pub async fn handle(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    download: Download,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    Ok(download.response(state.app.upload_file(&caller, id).await?))
}
