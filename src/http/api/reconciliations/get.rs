//! `GET /api/admin/reconciliations/{id}`

use actix_web::web::Data;

use crate::domain::RunId;
use crate::domain::run::Mode;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id, Json};
use crate::http::openapi::NotFound;
use crate::http::problem::ApiError;
use crate::http::views::RunView;

/// Get a run with its counters
#[utoipa::path(get, path = "/api/admin/reconciliations/{id}", operation_id = "get_run",
    tag = "admin",
    params(("id" = uuid::Uuid, Path, description = "The run")),
    responses((status = 200, description = "The run", body = RunView), NotFound))]
pub async fn handle(
    _caller: Caller,
    Id(id): Id<RunId>,
    state: Data<HttpState>,
) -> Result<Json<RunView>, ApiError> {
    Ok(Json(state.app.run_of(id, &Mode::RECONCILIATIONS).await?.into()))
}
