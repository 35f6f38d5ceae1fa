//! `POST /api/admin/uploads/{id}/verify`

use actix_web::web::Data;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id, Json, OptionalJson};
use crate::http::openapi::{BadBody, Conflict, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::UploadView;

/// How to verify an upload again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Verification, example = json!({"accept_changed": true}))]
pub struct VerifyBody {
    /// Accept other bytes than the verified ones, if they pass the rules of the policy. For such
    /// bytes, the size and the checksum that the client declared are ignored.
    accept_changed: Option<bool>,
}

/// Verify an upload again
///
/// Makes a `missing` or `rejected` upload `uploaded` again, if its object still exists. If the file
/// must be inspected, the upload is `inspecting` first. The object is then not deleted. If no newer
/// upload of its subject was verified, the upload is the subject's file again. Returns 409 if the
/// object does not exist, has other bytes, or breaks a rule.
#[utoipa::path(post, path = "/api/admin/uploads/{id}/verify", operation_id = "verify_upload",
    tag = "admin",
    params(("id" = uuid::Uuid, Path, description = "The upload, of any owner")),
    request_body = Option<VerifyBody>,
    responses((status = 200, description = "The upload after the verification", body = UploadView),
        BadBody, NotFound, Conflict))]
pub async fn handle(
    caller: Caller,
    Id(id): Id<UploadId>,
    OptionalJson(VerifyBody { accept_changed }): OptionalJson<VerifyBody>,
    state: Data<HttpState>,
) -> Result<Json<UploadView>, ApiError> {
    let upload = state.app.verify_upload(&caller.owner, id, accept_changed.unwrap_or_default());
    let upload = upload.await?;
    Ok(Json(UploadView::of(upload, &state.app)))
}
