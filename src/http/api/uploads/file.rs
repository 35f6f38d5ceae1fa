//! `GET /api/uploads/{id}/file`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Download, Id, UploadCaller};
use crate::http::openapi::{BadQuery, FilePending, NotAcceptable, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::FileUrlView;

/// Download an upload's file
///
/// Redirects to a signed URL of the store. Only verified files are served.
#[utoipa::path(get, path = "/api/uploads/{id}/file", operation_id = "get_upload_file",
    tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload"),
        ("redirect" = Option<bool>, Query, description = "`false` returns the URL instead")),
    responses(
        (status = 200, description = "The URL, with `redirect=false`", body = FileUrlView,
            headers(("Cache-Control" = String, description = "no-store"))),
        (status = 307, description = "The URL in `Location`",
            headers(("Location" = String, description = "The signed URL"),
                ("Cache-Control" = String, description = "no-store"))),
        BadQuery, NotFound, NotAcceptable, FilePending))]
pub async fn handle(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    download: Download,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    Ok(download.response(state.app.upload_file(&caller, id).await?))
}
