//! `PUT /api/attachments/{subject}`

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::Status;
use crate::http::HttpState;
use crate::http::extract::{Caller, Json, SubjectParams, SubjectPath, text};
use crate::http::openapi::{BadBody, NotAttachable, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::AttachmentView;

/// The upload to attach.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"upload_id": "0190a6f2-7b3c-7def-8123-456789abcdef"}))]
pub struct AttachBody {
    /// The id of the upload. The upload may still be `pending` or `inspecting`.
    #[schema(value_type = uuid::Uuid)]
    upload_id: String,
}

/// Attach an upload to a subject
///
/// Send this request, for example, when a form is submitted. An `uploaded` upload becomes the
/// subject's file at once, a `pending` or `inspecting` upload as soon as it is `uploaded`. If
/// several uploads are attached to the subject, the verified one that was attached last is the
/// file, in whatever order the files arrive. The previous file is deleted later. Repeating the
/// request changes nothing.
#[utoipa::path(put, path = "/api/attachments/{subject}", operation_id = "attach_upload",
    tag = "attachments",
    params(SubjectParams),
    request_body = AttachBody,
    responses((status = 200, description = "Attached", body = AttachmentView),
        (status = 202, description = "Attached once the upload is verified",
            body = AttachmentView), BadBody, NotFound, NotAttachable))]
pub async fn handle(
    caller: Caller,
    SubjectPath(subject): SubjectPath,
    Json(body): Json<AttachBody>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let id = text::id(&body.upload_id).map_err(|error| ApiError::field("upload_id", error))?;
    let (attached, status) = state.app.attach(&caller.owner, &subject, id).await?;
    let status = match status {
        Status::Pending | Status::Inspecting => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    Ok(HttpResponse::build(status).json(AttachmentView::of(attached, &state.app)))
}
