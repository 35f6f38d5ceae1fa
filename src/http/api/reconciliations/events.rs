//! `GET /api/admin/reconciliations/{id}/events`

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::domain::RunId;
use crate::domain::run::{Counters, Mode, MoveCounters, Progress, Run, RunStatus};
use crate::http::HttpState;
use crate::http::event_stream::{self, Chunk, HEARTBEAT};
use crate::http::extract::{Caller, Id, Query};
use crate::http::openapi::{NotFound, ServerSentEvent};
use crate::http::problem::ApiError;
use crate::http::views::{MoveView, RunView};
use crate::reconcile::Reconciler;

/// How often the progress is read from the database, because another process may work on the run.
const POLL: Duration = Duration::from_millis(400);

/// Follow a run
///
/// Returns server-sent events. The request may be sent to any process. One `progress` event is sent
/// now, and one after each change, at most a few per second. It contains the counters so far, the
/// number of findings, the number of shards, and the number of finished shards. The last event is a
/// `run` event with the final state of the run.
#[utoipa::path(get, path = "/api/admin/reconciliations/{id}/events",
    operation_id = "follow_run", tag = "admin",
    params(("id" = uuid::Uuid, Path, description = "The run")),
    responses((status = 200, description = "The events", body = ServerSentEvent, content_type = "text/event-stream"), NotFound))]
pub async fn handle(
    _caller: Caller,
    Id(id): Id<RunId>,
    query: Query,
    state: Data<HttpState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    state.app.run_of(id, &Mode::RECONCILIATIONS).await?;
    let first = state.app.run_progress(id).await?;
    let events = events(Arc::clone(&state.reconciler), first);
    Ok(event_stream::response(request.method(), events))
}

/// The state of an event stream.
struct Follower {
    reconciler: Arc<Reconciler>,
    /// The progress that was last sent to the client.
    progress: Progress,
    /// When the last chunk was sent.
    sent_at: Instant,
}

/// The events of a run of any mode. The connection takes the next event when it can send it, so a
/// slow client does not get every intermediate progress.
pub fn events(reconciler: Arc<Reconciler>, first: Progress) -> impl Stream<Item = Chunk> {
    let follower = Follower { reconciler, progress: first, sent_at: Instant::now() };
    stream::unfold(Some((follower, true)), |state| async move {
        let (follower, is_first) = state?;
        if is_first { Some(follower.event()) } else { follower.next().await }
    })
}

/// A chunk and the state of the stream after it. The state is `None` after the last chunk. The flag
/// is `true` before the first chunk.
type Step = (Chunk, Option<(Follower, bool)>);

impl Follower {
    /// Waits for the next change or heartbeat. Returns `None` if the process is stopping, if the
    /// database is not available, or if the run was deleted. The stream then ends, and the client
    /// reconnects.
    async fn next(mut self) -> Option<Step> {
        loop {
            sleep(POLL).await;
            if self.reconciler.is_ending() {
                return None;
            }
            let progress = self.reconciler.app.run_progress(self.progress.run.id).await.ok()?;
            if progress != self.progress {
                self.progress = progress;
                return Some(self.event());
            }
            if self.sent_at.elapsed() >= HEARTBEAT {
                self.sent_at = Instant::now();
                return Some((event_stream::heartbeat(), Some((self, false))));
            }
        }
    }

    fn event(mut self) -> Step {
        if self.progress.run.status != RunStatus::Running {
            let run = self.progress.run;
            let event = if run.request.mode == Mode::Move {
                event_stream::event("move", None, &MoveView::from(run))
            } else {
                event_stream::event("run", None, &RunView::from(run))
            };
            return (event, None);
        }
        self.sent_at = Instant::now();
        let Progress { run, findings, shards, shards_done } = &self.progress;
        let (counters, findings) = (CountersView::of(run), *findings);
        let (shards, shards_done) = (*shards, *shards_done);
        let view = ProgressView { counters, findings, shards, shards_done };
        (event_stream::event("progress", None, &view), Some((self, false)))
    }
}

/// The progress of a run.
#[derive(Serialize)]
struct ProgressView {
    counters: CountersView,
    findings: u64,
    shards: u64,
    shards_done: u64,
}

/// The counters of a run. A move and a reconciliation have different counters.
#[derive(Serialize)]
#[serde(untagged)]
enum CountersView {
    Move(MoveCounters),
    Reconciliation(Counters),
}

impl CountersView {
    fn of(run: &Run) -> Self {
        match run.request.mode {
            Mode::Move => Self::Move(run.counters.moves),
            Mode::Incremental | Mode::Audit => Self::Reconciliation(run.counters),
        }
    }
}
