//! `GET /api/attachments/{subject}/file`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::http::HttpState;
use crate::http::extract::{
    Caller, Download, DownloadParams, DownloadResponses, SubjectParams, SubjectPath,
};
use crate::http::openapi::{BadQuery, FilePending, NotAcceptable, NotFound};
use crate::http::problem::ApiError;

/// Download the file of a subject
///
/// Redirects to a signed URL of the store. Only verified files are served.
#[utoipa::path(
    get,
    path = "/api/attachments/{subject}/file",
    operation_id = "get_attachment_file",
    tag = "attachments",
    params(SubjectParams, DownloadParams),
    responses(DownloadResponses, BadQuery, NotFound, NotAcceptable, FilePending)
)]
pub async fn handle(
    caller: Caller,
    SubjectPath(subject): SubjectPath,
    download: Download,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    Ok(download.response(state.app.attachment_file(&caller.owner, &subject).await?))
}
