//! `POST /api/admin/instance/reclaim`

use actix_web::web::Data;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::PolicyName;
use crate::http::HttpState;
use crate::http::extract::{Caller, Json, OptionalJson};
use crate::http::openapi::BadBody;
use crate::http::problem::ApiError;
use crate::http::views::InstanceView;

/// What to reclaim.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Reclaim, example = json!({"policy": "tracks"}))]
pub struct ReclaimBody {
    /// The policy whose markers are reclaimed. The default is all policies.
    policy: Option<String>,
}

/// Take the markers back
///
/// A marker is an object in a policy's bucket that contains the id of the database that owns the
/// objects. Use this in the original database after a copy of it was started. It takes over the
/// markers with its id, or with the id that it had before it was reissued. Missing markers and
/// markers of other databases do not change. Stop or reissue the copy first.
#[utoipa::path(post, path = "/api/admin/instance/reclaim", operation_id = "reclaim_markers",
    tag = "admin", request_body = Option<ReclaimBody>,
    responses((status = 200, description = "The identity and its markers", body = InstanceView),
        BadBody))]
pub async fn handle(
    _caller: Caller,
    OptionalJson(body): OptionalJson<ReclaimBody>,
    state: Data<HttpState>,
) -> Result<Json<InstanceView>, ApiError> {
    let policy = body.policy.map(PolicyName::new);
    Ok(Json(state.app.reclaim_markers(policy.as_ref()).await?.into()))
}
