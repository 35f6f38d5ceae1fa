//! `POST /api/admin/reconciliations`

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use actix_web::web::Data;

use super::body::RunBody;
use super::get::find;
use crate::app::idempotency::Attempt;
use crate::db::idempotency::Claim;
use crate::domain::RunId;
use crate::domain::run::{Run, RunRequest, RunStatus};
use crate::http::HttpState;
use crate::http::extract::{Caller, Json, Once, Query, text};
use crate::http::openapi::{BadBody, OtherKey, RunActive};
use crate::http::problem::ApiError;
use crate::http::views::RunView;
use crate::reconcile::RunHandle;

/// Start a run
///
/// The run goes on by itself; with `wait=true` the answer comes when it has ended. A
/// client that hangs up does not stop it.
#[utoipa::path(post, path = "/api/admin/reconciliations", operation_id = "start_run",
    tag = "admin",
    params(("wait" = Option<bool>, Query, description = "Answer when the run has ended"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII \
            characters: the same key and request give the same resource, for 24 hours")),
    request_body = RunBody,
    responses(
        (status = 200, description = "The run as it ended, with `wait=true`", body = RunView),
        (status = 202, description = "The run as it started", body = RunView,
            headers(("Location" = String, description = "Its path"))),
        BadBody, RunActive, OtherKey))]
pub async fn handle(
    caller: Caller,
    mut query: Query,
    once: Once,
    Json(body): Json<RunBody>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let wait = query.value("wait", text::flag).unwrap_or(false);
    query.finish()?;
    let (key, request) = (once.key(), body.request(&state.app.policies)?);
    let run = match state.app.attempt(&caller.owner, key.as_ref()).await? {
        Attempt::Plain => begun(state.reconciler.start(request).await?, wait).await,
        Attempt::Again(id) => find(&state, RunId(id)).await?,
        Attempt::First(claim) => first(&state, &claim, request, wait).await?,
    };
    if wait && run.status != RunStatus::Running {
        return Ok(HttpResponse::Ok().json(RunView::from(run)));
    }
    let path = format!("/api/admin/reconciliations/{}", run.id);
    let mut response = HttpResponse::Accepted();
    Ok(response.insert_header((LOCATION, path)).json(RunView::from(run)))
}

async fn begun(started: RunHandle, wait: bool) -> Run {
    if wait { started.wait().await } else { started.run }
}

/// The run is not written in one transaction with its key, so an attempt that died in between
/// has left it.
async fn first(
    state: &HttpState,
    claim: &Claim,
    request: RunRequest,
    wait: bool,
) -> Result<Run, ApiError> {
    let id = RunId(claim.resource);
    if let Some(run) = state.app.db.runs().find(id).await? {
        state.app.db.idempotency().complete(claim).await?;
        return Ok(run);
    }
    match state.reconciler.start_as(id, request, None).await {
        Ok(started) => {
            state.app.db.idempotency().complete(claim).await?;
            Ok(begun(started, wait).await)
        }
        Err(error) => find(state, RunId(state.app.give_up(claim, error).await?)).await,
    }
}
