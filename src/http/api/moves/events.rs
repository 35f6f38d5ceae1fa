//! `GET /api/admin/moves/{id}/events`

use std::sync::Arc;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use crate::domain::RunId;
use crate::domain::run::Mode;
use crate::http::HttpState;
use crate::http::api::reconciliations::events::events;
use crate::http::event_stream;
use crate::http::extract::{Caller, Id, Query};
use crate::http::openapi::{NotFound, ServerSentEvent};
use crate::http::problem::ApiError;

/// Follow a move
///
/// Returns server-sent events. The request may be sent to any process. One `progress` event is sent
/// now, and one after each change, at most a few per second. It contains the counters so far, the
/// number of findings, the number of shards, and the number of finished shards. The last event is a
/// `move` event with the final state of the move.
#[utoipa::path(get, path = "/api/admin/moves/{id}/events", operation_id = "follow_move",
    tag = "admin",
    params(("id" = uuid::Uuid, Path, description = "The move")),
    responses((status = 200, description = "The events", body = ServerSentEvent, content_type = "text/event-stream"), NotFound))]
pub async fn handle(
    _caller: Caller,
    Id(id): Id<RunId>,
    query: Query,
    state: Data<HttpState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    state.app.run_of(id, &[Mode::Move]).await?;
    let first = state.app.run_progress(id).await?;
    let events = events(Arc::clone(&state.reconciler), first);
    Ok(event_stream::response(request.method(), events))
}
