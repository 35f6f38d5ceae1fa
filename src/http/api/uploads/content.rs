//! `PUT` and `POST /api/uploads/{id}/content`

use actix_web::rt;
use actix_web::web::Data;
use tracing::Instrument as _;

use crate::app::direct_upload::SentFile;
use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::file::FileForm;
use crate::http::extract::{
    DigestParams, Digests, DirectUploadPermit, FileBody, Id, Json, Query, UploadCaller,
};
use crate::http::openapi::{BadFile, NotFound};
use crate::http::problem::{ApiError, Code};
use crate::http::views::UploadView;

/// Send an upload's file through this service
///
/// Works for pending and expired uploads of every strategy except `multipart` and `tus`. The body
/// is the file itself, or a form with a part `file`. POST and PUT accept both; this document shows
/// the file as the body of PUT and the form as the body of POST. The bytes are streamed to the
/// store and must match the declared values. If the file is refused or the request is interrupted,
/// the upload still waits for its file. The request must contain the whole file: `Content-Range`,
/// `Upload-Complete: ?0`, `Upload-Offset` and form fields that number the chunks of a file are
/// refused with 400.
#[utoipa::path(method(post, put), path = "/api/uploads/{id}/content",
    operation_id = "send_content", tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload"), DigestParams),
    request_body(description = "The file", content(
        (String = "application/octet-stream"), (FileForm = "multipart/form-data"))),
    responses((status = 200, description = "The upload with its file", body = UploadView),
        BadFile, NotFound))]
pub async fn handle(
    (caller, permit): (UploadCaller, DirectUploadPermit),
    Id(id): Id<UploadId>,
    query: Query,
    Digests(digests): Digests,
    body: FileBody,
    state: Data<HttpState>,
) -> Result<Json<UploadView>, ApiError> {
    query.finish()?;
    let FileBody { filename: _, content_type, length, bytes, timeout } = body;
    let sent = SentFile { content_type, length, digests };
    // In a separate task: if the client disconnects, this handler is dropped, but the parts must
    // still be aborted.
    let app = state.app.clone();
    let work = async move {
        let _permit = permit;
        app.upload_content(&caller, id, sent, bytes).await
    };
    let stored = rt::spawn(work.in_current_span()).await;
    let stored = stored.map_err(|error| ApiError::new(Code::Internal).because(error))?;
    let stored = stored.map_err(|error| timeout.error(error))?;
    Ok(Json(UploadView::of(stored, &state.app)))
}
