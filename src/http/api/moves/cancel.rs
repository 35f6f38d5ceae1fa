//! `POST /api/admin/moves/{id}/cancel`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::domain::RunId;
use crate::domain::run::Mode;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id};
use crate::http::openapi::{Conflict, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::MoveView;

/// Cancel a move
///
/// The move ends at once, in all processes that work on it. Objects that were moved stay at their
/// new location, and the other objects stay at their old location. To move these, start another
/// move.
#[utoipa::path(post, path = "/api/admin/moves/{id}/cancel", operation_id = "cancel_move",
    tag = "admin",
    params(("id" = uuid::Uuid, Path, description = "The move")),
    responses((status = 202, description = "The move, cancelled", body = MoveView), NotFound, Conflict))]
pub async fn handle(
    _caller: Caller,
    Id(id): Id<RunId>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.app.run_of(id, &[Mode::Move]).await?;
    let run = state.reconciler.cancel(id).await?;
    Ok(HttpResponse::Accepted().json(MoveView::from(run)))
}
