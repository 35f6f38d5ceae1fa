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
    /// One policy. The default is all policies.
    policy: Option<String>,
}

/// Take the markers back
///
/// For the original of a database that was copied. This database takes over the markers with its
/// id, or with the id that it had before it was reissued. Missing markers and markers of other
/// databases stay as they are. Stop or reissue the copy first.
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
