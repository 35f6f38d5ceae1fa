//! `POST /api/admin/reconciliations/{id}/cancel`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::domain::RunId;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id};
use crate::http::openapi::{Conflict, NotFound};
use crate::http::problem::{ApiError, Code};
use crate::http::views::RunView;

/// Ask a run to stop
///
/// It ends at once, whichever processes work on it; a batch that is not written yet is
/// dropped.
#[utoipa::path(post, path = "/api/admin/reconciliations/{id}/cancel",
    operation_id = "cancel_run", tag = "admin",
    params(("id" = uuid::Uuid, Path, description = "The run")),
    responses((status = 202, description = "Asked", body = RunView), NotFound, Conflict))]
pub async fn handle(
    _caller: Caller,
    Id(id): Id<RunId>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let asked = state.reconciler.cancel(id).await?;
    let run = state.app.run(id).await?;
    if !asked {
        let detail = format!("The run has ended: {}", run.status.name());
        return Err(ApiError::saying(Code::State, detail));
    }
    Ok(HttpResponse::Accepted().json(RunView::from(run)))
}
