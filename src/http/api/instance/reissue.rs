//! `POST /api/admin/instance/reissue`

use actix_web::web::Data;

use crate::http::HttpState;
use crate::http::extract::{Caller, Json};
use crate::http::problem::ApiError;
use crate::http::views::InstanceView;

/// Give this database a new id
///
/// Use this in the copy of a database whose original is still in use. A marker is an object in a
/// policy's bucket that contains the id of the database that owns the objects. No marker is
/// written, because each marker may belong to the original. A policy's bucket is trusted again when
/// the configuration names another bucket or prefix, or when the marker is reclaimed.
#[utoipa::path(post, path = "/api/admin/instance/reissue", operation_id = "reissue_instance",
    tag = "admin",
    responses((status = 200, description = "The new identity", body = InstanceView)))]
pub async fn handle(
    _caller: Caller,
    state: Data<HttpState>,
) -> Result<Json<InstanceView>, ApiError> {
    Ok(Json(state.app.reissue_instance().await?.into()))
}
