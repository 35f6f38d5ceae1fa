//! The metrics and the log line of a run that has ended.

use crate::domain::run::{Counters, Progress, Run};
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
    for (kind, count) in run.counters.named() {
        metrics::counter!(names::RECONCILE_ITEMS, "mode" => mode, "kind" => kind).increment(count);
    }
}

/// Logs and counts a run's end. Called once, by the process that ended it.
pub(super) fn log_end(ended: &Progress) {
    let Progress { run, findings, shards, .. } = ended;
    let Counters {
        listed,
        list_requests,
        head_requests,
        confirmed,
        rejected,
        expired,
        missing,
        orphans,
        foreign,
        overwritten,
        late,
        aborted_multipart,
        deleted,
        errors,
    } = run.counters;
    let took = run.finished_at.map_or(0, |end| (end - run.started_at).num_milliseconds());
    count(run);
    tracing::info!(run = %run.id, mode = run.request.mode.name(), dry_run = run.request.dry_run,
        trigger = run.request.trigger.name(), status = run.status.name(), took_ms = took,
        listed, list_requests, head_requests, confirmed, rejected, expired, missing, orphans,
        foreign, overwritten, late, aborted_multipart, deleted, errors, findings, shards,
        error = run.error.as_deref(), "reconciliation ended");
}
