//! `POST /api/admin/reconciliations`

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use actix_web::web::Data;

use super::body::RunBody;
use crate::http::HttpState;
use crate::http::extract::{Caller, Json, Query, text};
use crate::http::openapi::{BadBody, RunActive};
use crate::http::problem::ApiError;
use crate::http::views::RunView;

/// Start a run
///
/// The run goes on by itself; with `wait=true` the answer comes when it has ended. A
/// client that hangs up does not stop it.
#[utoipa::path(post, path = "/api/admin/reconciliations", operation_id = "start_run",
    tag = "admin",
    params(("wait" = Option<bool>, Query, description = "Answer when the run has ended")),
    request_body = RunBody,
    responses(
        (status = 200, description = "The run as it ended, with `wait=true`", body = RunView),
        (status = 202, description = "The run as it started", body = RunView,
            headers(("Location" = String, description = "Its path"))),
        BadBody, RunActive))]
pub async fn handle(
    _caller: Caller,
    mut query: Query,
    Json(body): Json<RunBody>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let wait = query.value("wait", text::flag).unwrap_or(false);
    query.finish()?;
    let started = state.reconciler.start(body.request(&state.app.policies)?).await?;
    if wait {
        return Ok(HttpResponse::Ok().json(RunView::from(started.wait().await)));
    }
    let path = format!("/api/admin/reconciliations/{}", started.run.id);
    let mut response = HttpResponse::Accepted();
    Ok(response.insert_header((LOCATION, path)).json(RunView::from(started.run)))
}
