//! `GET /api/admin/reconciliations/{id}/events`

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{Bytes, Data};
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::domain::RunId;
use crate::domain::run::{Counters, Progress, RunStatus};
use crate::http::HttpState;
use crate::http::extract::{Caller, Id, Query};
use crate::http::openapi::{NotFound, ServerSentEvent};
use crate::http::problem::{ApiError, Code};
use crate::http::views::RunView;
use crate::reconcile::Reconciler;

/// How often the rows are read: any process may be at work on the run.
const POLL: Duration = Duration::from_millis(400);

/// Proxies cut connections that are silent for 30 to 60 s.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Follow a run
///
/// Server-sent events, from whichever process is asked: a `progress` event now and at each
/// change, at most a few a second, with the counters so far, the number of findings, and
/// how many shards there are and are done. A `run` event with the run as it ended is the
/// last.
#[utoipa::path(get, path = "/api/admin/reconciliations/{id}/events",
    operation_id = "follow_run", tag = "admin",
    params(("id" = uuid::Uuid, Path, description = "The run")),
    responses((status = 200, description = "The events", body = ServerSentEvent, content_type = "text/event-stream"), NotFound))]
pub async fn handle(
    _caller: Caller,
    Id(id): Id<RunId>,
    query: Query,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let first = state.app.db.runs().progress(id).await?;
    let first = first.ok_or_else(|| ApiError::saying(Code::NotFound, "No such run"))?;
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // nginx would collect the events until its buffer is full.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(events(Arc::clone(&state.reconciler), first)))
}

/// What was told last, and when.
struct Told {
    progress: Progress,
    at: Instant,
}

/// Pulled by the connection as it has room: a slow reader misses what lies between, and
/// nothing is kept for it.
fn events(
    reconciler: Arc<Reconciler>,
    first: Progress,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let begin = Some((reconciler, None::<Told>, Some(first)));
    stream::unfold(begin, |state| async move {
        let (reconciler, told, first) = state?;
        if let Some(progress) = first {
            return Some(tell(reconciler, progress));
        }
        let told = told?;
        loop {
            sleep(POLL).await;
            if reconciler.is_ending() {
                return None;
            }
            match reconciler.app.db.runs().progress(told.progress.run.id).await {
                Ok(Some(progress)) if progress != told.progress => {
                    return Some(tell(reconciler, progress));
                }
                // The run is pruned, or the database is away: who cares comes back.
                Ok(None) | Err(_) => return None,
                Ok(Some(_)) if told.at.elapsed() >= HEARTBEAT => {
                    let told = Told { at: Instant::now(), ..told };
                    let next = Some((reconciler, Some(told), None));
                    return Some((Ok(Bytes::from_static(b":\n\n")), next));
                }
                Ok(Some(_)) => {}
            }
        }
    })
}

type State = Option<(Arc<Reconciler>, Option<Told>, Option<Progress>)>;

fn tell(reconciler: Arc<Reconciler>, progress: Progress) -> (Result<Bytes, Infallible>, State) {
    if progress.run.status != RunStatus::Running {
        return (Ok(event("run", &RunView::from(progress.run))), None);
    }
    let Progress { run, findings, shards, shards_done } = &progress;
    let text = event(
        "progress",
        &ProgressView {
            counters: run.counters,
            findings: *findings,
            shards: *shards,
            shards_done: *shards_done,
        },
    );
    let told = Told { progress, at: Instant::now() };
    (Ok(text), Some((reconciler, Some(told), None)))
}

/// How far a run is.
#[derive(Serialize)]
struct ProgressView {
    counters: Counters,
    findings: u64,
    shards: u64,
    shards_done: u64,
}

fn event(name: &str, data: &impl Serialize) -> Bytes {
    // JSON without line breaks; the views have nothing that can't be written.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}
