//! The metrics and the log line of a run that has ended.

use crate::domain::run::{Mode, MoveCounters, Progress, Run};
use crate::telemetry::metrics as names;

/// Records the metrics of a run that has ended.
fn count(run: &Run) {
    let mode = run.request.mode.name();
    metrics::counter!(names::RECONCILE_RUNS, "mode" => mode,
        "trigger" => run.request.trigger.name(), "status" => run.status.name())
    .increment(1);
    if let Some(end) = run.finished_at {
        let took = (end - run.started_at).as_seconds_f64().max(0.0);
        metrics::histogram!(names::RECONCILE_DURATION, "mode" => mode).record(took);
    }
    let (counts, moves) = (run.counters.named(), run.counters.moves.named());
    for (kind, count) in counts.into_iter().chain(moves) {
        metrics::counter!(names::RECONCILE_ITEMS, "mode" => mode, "kind" => kind).increment(count);
    }
}

/// Logs and counts a run's end. Called once, by the process that ended it.
pub(super) fn log_end(ended: &Progress) {
    let Progress { run, findings, shards, .. } = ended;
    let counts = run.counters;
    let took = run.finished_at.map_or(0, |end| (end - run.started_at).num_milliseconds());
    count(run);
    if run.request.mode == Mode::Move {
        let MoveCounters { moved, bytes, compared, differences, open, failed } = counts.moves;
        tracing::info!(run = %run.id, dry_run = run.request.dry_run,
            trigger = run.request.trigger.name(), status = run.status.name(), took_ms = took,
            moved, bytes, compared, differences, open, failed,
            head_requests = counts.head_requests, findings, shards,
            error = run.error.as_deref(), "move ended");
        return;
    }
    tracing::info!(run = %run.id, mode = run.request.mode.name(), dry_run = run.request.dry_run,
        trigger = run.request.trigger.name(), status = run.status.name(), took_ms = took,
        listed = counts.listed, list_requests = counts.list_requests,
        head_requests = counts.head_requests, confirmed = counts.confirmed,
        rejected = counts.rejected, expired = counts.expired, missing = counts.missing,
        orphans = counts.orphans, adopted = counts.adopted, strays = counts.strays,
        foreign = counts.foreign,
        overwritten = counts.overwritten, late = counts.late, aborted_multipart = counts.aborted_multipart,
        deleted = counts.deleted, errors = counts.errors, findings, shards,
        error = run.error.as_deref(), "reconciliation ended");
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::ids::RunId;
    use crate::domain::run::{Counters, Mode, RunRequest, RunStatus, Trigger};
    use crate::telemetry::captured::Captured;

    #[test]
    fn the_line_of_a_run_has_every_counter() {
        let (log, counters) = (Captured::default(), Counters { errors: 7, ..Counters::default() });
        let run = Run {
            id: RunId(uuid::Uuid::nil()),
            request: RunRequest::of(Mode::Audit, Trigger::Cli),
            status: RunStatus::Succeeded,
            counters,
            error: None,
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: None,
        };
        let to_log = log.clone();
        let lines = tracing_subscriber::fmt::layer().json().with_writer(move || to_log.clone());
        let subscriber = tracing_subscriber::registry().with(lines.flatten_event(true));
        tracing::subscriber::with_default(subscriber, || {
            log_end(&Progress { run, findings: 0, shards: 0, shards_done: 0 });
        });
        let line: Value = serde_json::from_str(&log.text()).unwrap();
        for (name, count) in counters.named() {
            assert_eq!(line[name], count, "{name}");
        }
    }
}
