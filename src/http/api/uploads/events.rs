//! `GET /api/uploads/{id}/events`

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{Stream, stream};
use tokio::time::timeout;

use crate::app::changes::Followed;
use crate::domain::{Upload, UploadId};
use crate::http::HttpState;
use crate::http::extract::{Caller, Id, Query};
use crate::http::openapi::{NotFound, ServerSentEvent};
use crate::http::problem::ApiError;
use crate::http::views::UploadView;

/// Proxies cut connections that are silent for 30 to 60 s.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Follow an upload
///
/// Server-sent events: a `status` event with the upload now, and one at each change. The
/// stream ends after a final state; who reconnects then with `Last-Event-ID`, as browsers
/// do by themselves, is answered with 204 and stops. A reader that is too slow is cut off
/// and reads afresh when it comes back.
#[utoipa::path(get, path = "/api/uploads/{id}/events", operation_id = "follow_upload",
    tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last event that was read")),
    responses(
        (status = 200, description = "The events", body = ServerSentEvent, content_type = "text/event-stream"),
        (status = 204, description = "Nothing more will come"), NotFound))]
pub async fn handle(
    caller: Caller,
    Id(id): Id<UploadId>,
    query: Query,
    state: Data<HttpState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let mut followed = state.app.follow_upload(&caller.owner, id).await?;
    let Some(first) = followed.next(None).await else {
        return Ok(HttpResponse::NoContent().finish());
    };
    let last = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    if first.status().is_final() && last == Some(first.version.to_string().as_str()) {
        return Ok(HttpResponse::NoContent().finish());
    }
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // nginx would collect the events until its buffer is full.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(events(followed, first)))
}

/// What is pulled by the connection as it has room: nothing is buffered here.
fn events(followed: Followed, first: Arc<Upload>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let begin = (followed, None::<Arc<Upload>>, Some(first));
    stream::unfold(begin, |(mut followed, last, first)| async move {
        if let Some(first) = first {
            let text = event(&first);
            return Some((Ok(text), (followed, Some(first), None)));
        }
        match timeout(HEARTBEAT, followed.next(last.as_deref())).await {
            Err(_) => Some((Ok(Bytes::from_static(b":\n\n")), (followed, last, None))),
            Ok(Some(upload)) => {
                let text = event(&upload);
                Some((Ok(text), (followed, Some(upload), None)))
            }
            Ok(None) => None,
        }
    })
}

fn event(upload: &Upload) -> Bytes {
    let version = upload.version;
    // JSON without line breaks; the view has nothing that can't be written.
    let data = serde_json::to_string(&UploadView::from(upload.clone())).unwrap_or_default();
    format!("event: status\nid: {version}\ndata: {data}\n\n").into()
}
