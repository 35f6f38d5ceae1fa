//! `GET /api/uploads/{id}/events`

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{Stream, stream};
use tokio::time::timeout;

use crate::app::App;
use crate::app::changes::Followed;
use crate::domain::{Upload, UploadId};
use crate::http::HttpState;
use crate::http::event_stream::{self, Chunk, HEARTBEAT};
use crate::http::extract::{Id, Query, UploadCaller};
use crate::http::openapi::{NotFound, ServerSentEvent};
use crate::http::problem::ApiError;
use crate::http::views::UploadView;

/// Follow an upload
///
/// Returns server-sent events: one `status` event with the upload now, and one after each change.
/// The stream ends after a final state. If a client reconnects after that with `Last-Event-ID`, as
/// browsers do automatically, it gets 204 and stops. If a client reads too slowly, its stream is
/// closed. It can reconnect and gets the current state.
#[utoipa::path(get, path = "/api/uploads/{id}/events", operation_id = "follow_upload",
    tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last event that was read")),
    responses(
        (status = 200, description = "The events", body = ServerSentEvent, content_type = "text/event-stream"),
        (status = 204, description = "The upload has ended; no more events"), NotFound))]
pub async fn handle(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    query: Query,
    state: Data<HttpState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let last = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let is_read = |upload: &Upload| {
        upload.status().is_final() && last == Some(upload.version.to_string().as_str())
    };
    // A HEAD request does not wait, so it does not count as a waiting request.
    if request.method() == Method::HEAD {
        let upload = state.app.upload(&caller, id).await?;
        if is_read(&upload) {
            return Ok(HttpResponse::NoContent().finish());
        }
        return Ok(event_stream::response(request.method(), stream::empty()));
    }
    let mut followed = state.app.follow_upload(&caller, id).await?;
    match followed.next(None).await {
        Some(first) if !is_read(&first) => {
            Ok(event_stream::response(request.method(), events(state.app.clone(), followed, first)))
        }
        _ => Ok(HttpResponse::NoContent().finish()),
    }
}

/// The events of an upload. The connection takes the next event when it can send it, so nothing is
/// buffered here.
fn events(app: Arc<App>, followed: Followed, first: Arc<Upload>) -> impl Stream<Item = Chunk> {
    let begin = (app, followed, None::<Arc<Upload>>, Some(first));
    stream::unfold(begin, |(app, mut followed, last, first)| async move {
        if let Some(first) = first {
            let chunk = status_event(&first, &app);
            return Some((chunk, (app, followed, Some(first), None)));
        }
        match timeout(HEARTBEAT, followed.next(last.as_deref())).await {
            Err(_) => Some((event_stream::heartbeat(), (app, followed, last, None))),
            Ok(Some(upload)) => {
                let chunk = status_event(&upload, &app);
                Some((chunk, (app, followed, Some(upload), None)))
            }
            Ok(None) => None,
        }
    })
}

fn status_event(upload: &Upload, app: &App) -> Chunk {
    event_stream::event("status", Some(&upload.version), &UploadView::of(upload.clone(), app))
}
