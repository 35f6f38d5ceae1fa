//! `GET /api/admin/moves/{id}`

use actix_web::web::Data;

use crate::domain::RunId;
use crate::domain::run::Mode;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id, Json};
use crate::http::openapi::NotFound;
use crate::http::problem::ApiError;
use crate::http::views::MoveView;

/// Get a move with its counters
#[utoipa::path(get, path = "/api/admin/moves/{id}", operation_id = "get_move", tag = "admin",
    params(("id" = uuid::Uuid, Path, description = "The move")),
    responses((status = 200, description = "The move", body = MoveView), NotFound))]
pub async fn handle(
    _caller: Caller,
    Id(id): Id<RunId>,
    state: Data<HttpState>,
) -> Result<Json<MoveView>, ApiError> {
    Ok(Json(state.app.run_of(id, &[Mode::Move]).await?.into()))
}
