//! `GET /api/attachments/{subject}`

use actix_web::web::Data;

use crate::http::HttpState;
use crate::http::extract::{Caller, Json, SubjectParams, SubjectPath};
use crate::http::openapi::{BadSubject, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::AttachmentView;

/// Get the attachment of a subject
#[utoipa::path(get, path = "/api/attachments/{subject}", operation_id = "get_attachment",
    tag = "attachments",
    params(SubjectParams),
    responses((status = 200, description = "The attachment", body = AttachmentView), BadSubject,
        NotFound))]
pub async fn handle(
    caller: Caller,
    SubjectPath(subject): SubjectPath,
    state: Data<HttpState>,
) -> Result<Json<AttachmentView>, ApiError> {
    let attachment = state.app.attachment(&caller.owner, &subject).await?;
    Ok(Json(AttachmentView::of(attachment, &state.app)))
}
