//! `POST /api/admin/reconciliations/{id}/cancel`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::domain::RunId;
use crate::domain::run::Mode;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id};
use crate::http::openapi::{Conflict, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::RunView;

/// Cancel a run
///
/// The run ends at once, in all processes that work on it. Changes that are not committed yet are
/// discarded.
#[utoipa::path(post, path = "/api/admin/reconciliations/{id}/cancel",
    operation_id = "cancel_run", tag = "admin",
    params(("id" = uuid::Uuid, Path, description = "The run")),
    responses((status = 202, description = "The run, cancelled", body = RunView), NotFound, Conflict))]
pub async fn handle(
    _caller: Caller,
    Id(id): Id<RunId>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.app.run_of(id, &Mode::RECONCILIATIONS).await?;
    let run = state.reconciler.cancel(id).await?;
    Ok(HttpResponse::Accepted().json(RunView::from(run)))
}
