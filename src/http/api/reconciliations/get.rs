//! `GET /api/admin/reconciliations/{id}`

use actix_web::web::Data;

use crate::domain::RunId;
use crate::domain::run::Run;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id, Json};
use crate::http::openapi::NotFound;
use crate::http::problem::{ApiError, Code};
use crate::http::views::RunView;

/// One run with its counters
#[utoipa::path(get, path = "/api/admin/reconciliations/{id}", operation_id = "get_run",
    tag = "admin",
    params(("id" = uuid::Uuid, Path, description = "The run")),
    responses((status = 200, description = "The run", body = RunView), NotFound))]
pub async fn handle(
    _caller: Caller,
    Id(id): Id<RunId>,
    state: Data<HttpState>,
) -> Result<Json<RunView>, ApiError> {
    Ok(Json(find(&state, id).await?.into()))
}

/// The run, or the problem that there is none.
pub(super) async fn find(state: &HttpState, id: RunId) -> Result<Run, ApiError> {
    let run = state.app.db.runs().find(id).await?;
    run.ok_or_else(|| ApiError::saying(Code::NotFound, "No such run"))
}
