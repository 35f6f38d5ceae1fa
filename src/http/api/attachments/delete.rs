//! `DELETE /api/attachments/{subject}`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::http::HttpState;
use crate::http::extract::{Caller, SubjectParams, SubjectPath};
use crate::http::openapi::{BadSubject, NotFound};
use crate::http::problem::ApiError;

/// Delete the attachment of a subject
///
/// Ends all uploads of the subject. Their objects are deleted later. The subject can be used again.
#[utoipa::path(delete, path = "/api/attachments/{subject}", operation_id = "delete_attachment",
    tag = "attachments",
    params(SubjectParams),
    responses((status = 204, description = "The subject has no file"), BadSubject, NotFound))]
pub async fn handle(
    caller: Caller,
    SubjectPath(subject): SubjectPath,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.app.delete_attachment(&caller.owner, &subject).await?;
    Ok(HttpResponse::NoContent().finish())
}
