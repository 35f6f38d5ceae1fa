//! `GET /api/attachments/{subject}/file`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::http::HttpState;
use crate::http::extract::{Caller, Download, SubjectPath};
use crate::http::openapi::{BadQuery, FilePending, NotAcceptable, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::FileUrlView;

/// Download the file of a subject
///
/// Redirects to a signed URL of the store. Only verified files are served.
#[utoipa::path(get, path = "/api/attachments/{subject}/file",
    operation_id = "get_attachment_file", tag = "attachments",
    params(("subject" = String, Path, description = "The subject", min_length = 1,
            max_length = 200, pattern = "^[A-Za-z0-9._~:@-]+$"),
        ("redirect" = Option<bool>, Query, description = "`false` returns the URL instead")),
    responses(
        (status = 200, description = "The URL, with `redirect=false`", body = FileUrlView,
            headers(("Cache-Control" = String, description = "no-store"))),
        (status = 307, description = "The URL in `Location`",
            headers(("Location" = String, description = "The signed URL"),
                ("Cache-Control" = String, description = "no-store"))),
        BadQuery, NotFound, NotAcceptable, FilePending))]
pub async fn handle(
    caller: Caller,
    SubjectPath(subject): SubjectPath,
    download: Download,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    Ok(download.response(state.app.attachment_file(&caller.owner, &subject).await?))
}
