//! `POST /api/admin/reconciliations`

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use actix_web::web::Data;

use super::body::RunBody;
use crate::domain::run::RunStatus;
use crate::http::HttpState;
use crate::http::extract::{Caller, IdempotencyParams, Idempotent, Json, Query, text};
use crate::http::openapi::{BadBody, OtherKey, RunActive};
use crate::http::problem::ApiError;
use crate::http::views::RunView;

/// Start a run
///
/// The run continues in the background. With `wait=true`, the response is sent when the run has
/// ended. The run continues if the client disconnects.
#[utoipa::path(post, path = "/api/admin/reconciliations", operation_id = "start_run",
    tag = "admin",
    params(("wait" = Option<bool>, Query, description = "Wait until the run has ended"),
        IdempotencyParams),
    request_body = RunBody,
    responses(
        (status = 200, description = "The run as it ended, with `wait=true`", body = RunView),
        (status = 202, description = "The run as it started", body = RunView,
            headers(("Location" = String, description = "The path of the run"))),
        BadBody, RunActive, OtherKey))]
pub async fn handle(
    caller: Caller,
    mut query: Query,
    Idempotent { key, body: Json(body) }: Idempotent<Json<RunBody>>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let wait = query.value("wait", text::flag).unwrap_or(false);
    query.finish()?;
    let request = body.request(&state.app.policies)?;
    let run = state.reconciler.start_once(&caller.owner, key.as_ref(), request, wait).await?;
    if wait && run.status != RunStatus::Running {
        return Ok(HttpResponse::Ok().json(RunView::from(run)));
    }
    let path = format!("/api/admin/reconciliations/{}", run.id);
    let mut response = HttpResponse::Accepted();
    Ok(response.insert_header((LOCATION, path)).json(RunView::from(run)))
}
