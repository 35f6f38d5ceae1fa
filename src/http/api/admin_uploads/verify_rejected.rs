//! `POST /api/admin/uploads/verify`

use actix_web::web::Data;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::verify::Reverified;
use crate::http::HttpState;
use crate::http::extract::text::{self, REQUIRED};
use crate::http::extract::{Caller, Json};
use crate::http::openapi::{BadBody, NotFound};
use crate::http::problem::ApiError;

/// The uploads to verify again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RunVerification,
    example = json!({"run_id": "0190a6f2-7b3c-7def-8123-456789abcdef", "accept_changed": true}))]
pub struct VerifyRejectedBody {
    /// The id of the run that rejected the uploads.
    #[schema(required, value_type = uuid::Uuid)]
    run_id: Option<String>,
    /// Accept other bytes than the verified ones, if they pass the rules of the policy.
    accept_changed: Option<bool>,
}

/// The result for the uploads that a run rejected.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reverified)]
pub struct ReverifiedView {
    /// The number of uploads that were verified again.
    pub verified: u64,
    /// The number of uploads that were no longer `rejected`.
    pub unchanged: u64,
    /// The number of uploads that stay `rejected` because of their bytes.
    pub refused: u64,
    /// The number of uploads without an object.
    pub absent: u64,
    /// The number of uploads that could not be verified now. The log contains the errors. Repeat
    /// the request.
    pub failed: u64,
}

/// Verify the uploads of a run again
///
/// Verifies each upload that a run rejected, like `POST /api/admin/uploads/{id}/verify`. The
/// request may be repeated, for example if it was interrupted.
#[utoipa::path(post, path = "/api/admin/uploads/verify", operation_id = "verify_rejected_uploads",
    tag = "admin", request_body = VerifyRejectedBody,
    responses((status = 200, description = "The numbers of uploads", body = ReverifiedView),
        BadBody, NotFound))]
pub async fn handle(
    caller: Caller,
    Json(VerifyRejectedBody { run_id, accept_changed }): Json<VerifyRejectedBody>,
    state: Data<HttpState>,
) -> Result<Json<ReverifiedView>, ApiError> {
    let run = run_id.ok_or(REQUIRED.to_owned()).and_then(|id| text::id(&id));
    let run = run.map_err(|sentence| ApiError::field("run_id", sentence))?;
    let accept_changed = accept_changed.unwrap_or_default();
    let counts = state.app.verify_rejected_by(&caller.owner, run, accept_changed).await?;
    let Reverified { verified, unchanged, refused, absent, failed } = counts;
    Ok(Json(ReverifiedView { verified, unchanged, refused, absent, failed }))
}
