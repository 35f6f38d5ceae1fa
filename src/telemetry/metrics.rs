//! The metrics of the service, and the recorder that `GET /metrics` reads.
//!
//! To add a metric: add a name and a line to [`ALL`], record it where it happens, and run
//! `scripts/check-docs --write` for the reference page. The values of labels are bounded: names
//! from the configuration and from code, route templates, statuses; never ids, keys, owners or
//! request paths.
//!
//! The `metrics` crate has one recorder per process. Without a recorder (commands that don't serve,
//! tests, `telemetry.metrics = false`), recording does nothing.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number that only increases.
    Counter,
    /// A number that increases and decreases.
    Gauge,
    /// A distribution of values.
    Histogram,
}

/// A metric that is exported.
#[derive(Debug)]
pub struct Metric {
    /// The name, including the unit and `_total`.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// Its description.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(#[doc = $help] pub const $constant: &str = $name;)+

        /// Every metric.
        pub const ALL: &[Metric] = &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        }),+];
    };
}

metrics! {
    HTTP_REQUESTS = Counter "upload_coordinator_http_requests_total" ["method", "route", "status"]
        "Requests, by route template and status";
    HTTP_DURATION = Histogram "upload_coordinator_http_request_duration_seconds"
        ["method", "route"] "Time from a request to its response";
    UPLOADS_CREATED = Counter "upload_coordinator_uploads_created_total" ["policy", "strategy"]
        "Uploads created";
    TRANSITIONS = Counter "upload_coordinator_upload_transitions_total"
        ["policy", "status", "source"]
        "Changes of an upload's status, by new status and by what caused the change";
    CREATION_TO_UPLOADED = Histogram "upload_coordinator_upload_creation_to_uploaded_seconds"
        ["policy", "source"] "Time from the creation of an upload to its verification";
    PUT_TO_UPLOADED = Histogram "upload_coordinator_upload_put_to_uploaded_seconds"
        ["policy", "source"] "Time from the object's arrival, by the store's clock, to its verification";
    UPLOADS = Gauge "upload_coordinator_uploads" ["policy", "status"]
        "Uploads by status";
    OLDEST_PENDING = Gauge "upload_coordinator_oldest_pending_age_seconds" ["policy"]
        "Age of the oldest pending upload; 0 if none is pending";
    RECONCILE_RUNS = Counter "upload_coordinator_reconcile_runs_total"
        ["mode", "trigger", "status"] "Reconciliation runs that ended in this process";
    RECONCILE_DURATION = Histogram "upload_coordinator_reconcile_run_duration_seconds" ["mode"]
        "Duration of reconciliation runs";
    RECONCILE_ITEMS = Counter "upload_coordinator_reconcile_items_total" ["mode", "kind"]
        "Counters of runs: requests sent, objects listed, uploads changed, errors";
    RECONCILE_LAST_SUCCESS = Gauge "upload_coordinator_reconcile_last_success_timestamp_seconds"
        ["mode"] "Time of the end of the newest successful run of any process";
    ORPHANS = Gauge "upload_coordinator_orphans" ["policy"]
        "Objects without a row after the newest successful audit of any process";
    DAMAGE_WITHHELD = Counter "upload_coordinator_damage_withheld_total" ["policy", "source"]
        "Losses, rejections and deletions of verified uploads that the damage limit prevented";
    STORE_CALLS = Counter "upload_coordinator_store_calls_total"
        ["store", "operation", "outcome"] "Calls to the object stores";
    STORE_DURATION = Histogram "upload_coordinator_store_call_duration_seconds"
        ["store", "operation"] "Duration of calls to the object stores, including retries";
    STORE_CLOCK_OFFSET = Gauge "upload_coordinator_store_clock_offset_seconds" ["store"]
        "The store's clock minus this process's clock, as of the newest response";
    STORE_REFUSALS = Gauge "upload_coordinator_store_credential_refusals" ["store"]
        "Consecutive checks of the bucket that were refused because of the credentials";
    DB_CONNECTIONS = Gauge "upload_coordinator_db_connections" ["pool", "state"]
        "Database connections of this process";
    DB_STATEMENTS = Counter "upload_coordinator_db_statements_total" ["outcome"]
        "Database statements, without BEGIN, COMMIT and ROLLBACK";
    DB_DURATION = Histogram "upload_coordinator_db_statement_duration_seconds" []
        "Duration of database statements, including the wait for a connection";
    WAITERS = Gauge "upload_coordinator_waiters" []
        "Long polls and event streams that wait for uploads";
    OUTBOX = Gauge "upload_coordinator_webhook_outbox_deliveries" ["state"]
        "Webhook deliveries that are pending or were given up, counted up to 100,000";
    WEBHOOK_ATTEMPTS = Counter "upload_coordinator_webhook_attempts_total"
        ["endpoint", "outcome"] "Attempts to deliver webhooks";
    INSPECTIONS = Counter "upload_coordinator_inspections_total" ["inspector", "outcome"]
        "Attempts of inspections that ended in this process";
    INSPECTION_DURATION = Histogram "upload_coordinator_inspection_duration_seconds"
        ["inspector"] "Duration of attempts of inspections";
    INSPECTION_QUEUE = Gauge "upload_coordinator_inspection_queue" ["inspector", "state"]
        "Uploads that wait for an inspector";
    INSPECTION_OLDEST = Gauge "upload_coordinator_inspection_oldest_age_seconds"
        ["inspector", "state"] "Age of the oldest upload that waits for an inspector; 0 if none does";
    ABORTS_DUE = Gauge "upload_coordinator_multipart_aborts_due" []
        "Multipart uploads whose abort the store has not confirmed yet";
    BUCKET_EVENTS = Counter "upload_coordinator_bucket_events_total" ["outcome"]
        "Events of buckets, from webhooks and queues";
    SQS_MESSAGES = Counter "upload_coordinator_sqs_messages_total" ["outcome"]
        "Messages taken from the event queue";
    SQS_ERRORS = Counter "upload_coordinator_sqs_errors_total" ["kind"]
        "Calls to the event queue that failed";
    SQS_QUEUE = Gauge "upload_coordinator_sqs_queue_messages" ["state"]
        "Messages in the event queue, read about once a minute";
    MARKER_TRUSTED = Gauge "upload_coordinator_marker_trusted" ["policy"]
        "1 if the marker shows that the policy's bucket belongs to this database, else 0";
    DB_CLOCK_OFFSET = Gauge "upload_coordinator_db_clock_offset_seconds" []
        "The database's clock minus this process's clock";
    STATS_AGE = Gauge "upload_coordinator_counts_age_seconds" []
        "Age of the counts of uploads, deliveries and aborts";
    PROCESS_CPU = Counter "process_cpu_seconds_total" []
        "Processor time of this process, in whole seconds";
    PROCESS_MEMORY = Gauge "process_resident_memory_bytes" [] "Resident memory of this process";
    PROCESS_FDS = Gauge "process_open_fds" [] "Open file descriptors of this process";
    PROCESS_START = Gauge "process_start_time_seconds" [] "Start time of this process";
}

/// Bucket limits for requests and calls, in seconds: from a cached response to the timeout of a
/// proxy.
const CALLS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Bucket limits for uploads and runs, in seconds: from the delivery of an event to a day.
const WAITS: [f64; 12] =
    [0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0];

/// The interval at which histograms are drained, so that their memory is bounded even if nothing
/// scrapes them.
const UPKEEP: Duration = Duration::from_secs(5);

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Why the metrics can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The limits of the histogram buckets are invalid.
    #[error("the recorder of metrics can't be built")]
    Build(#[from] BuildError),
    /// The process has another recorder already.
    #[error("another recorder of metrics is already installed")]
    Installed,
}

/// Installs the recorder for the rest of this process. Called once, on a tokio runtime.
pub fn install() -> Result<(), MetricsError> {
    let wait = |name: &str| Matcher::Full(name.to_owned());
    let recorder = PrometheusBuilder::new()
        .set_buckets(&CALLS)?
        .set_buckets_for_metric(wait(CREATION_TO_UPLOADED), &WAITS)?
        .set_buckets_for_metric(wait(PUT_TO_UPLOADED), &WAITS)?
        .set_buckets_for_metric(wait(RECONCILE_DURATION), &WAITS)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Installed)?;
    for Metric { name, kind, help, .. } in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *help),
            Kind::Gauge => metrics::describe_gauge!(*name, *help),
            Kind::Histogram => metrics::describe_histogram!(*name, *help),
        }
    }
    let upkeep = handle.clone();
    RECORDER.set(handle).map_err(|_| MetricsError::Installed)?;
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(())
}

/// All metrics in the text format of Prometheus; `None` if no recorder is installed.
pub fn render() -> Option<String> {
    RECORDER.get().map(PrometheusHandle::render)
}

/// Converts a count to the type of a gauge. Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "a gauge does not need the last digit")]
pub fn as_gauge(count: u64) -> f64 {
    count as f64
}

/// Reads the process's statistics from the kernel, and sets their metrics. Does nothing on a system
/// without `/proc`.
pub fn observe_process() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    if let Some(kibibytes) = field("VmRSS") {
        metrics::gauge!(PROCESS_MEMORY).set(as_gauge(kibibytes * 1024));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        metrics::gauge!(PROCESS_FDS).set(as_gauge(open.count() as u64));
    }
    if let Some((ticks, started)) = times() {
        metrics::counter!(PROCESS_CPU).absolute(ticks / USER_HZ);
        metrics::gauge!(PROCESS_START).set(as_gauge(started));
    }
}

/// The unit of times in `/proc`, on every architecture of Linux.
const USER_HZ: u64 = 100;

/// Processor time in ticks, and the start time in seconds since 1970.
fn times() -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses. The name may contain any character.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |n: usize| fields.get(n).and_then(|field| field.parse::<u64>().ok());
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    let started = boot.trim().parse::<u64>().ok()? + number(19)? / USER_HZ;
    Some((number(11)? + number(12)?, started))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_prometheus_conventions() {
        let mut seen = BTreeSet::new();
        for Metric { name, kind, labels, help } in ALL {
            assert!(seen.insert(*name), "{name} is listed twice");
            let lower = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().all(lower), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            if *kind == Kind::Histogram {
                assert!(name.ends_with("_seconds"), "{name}");
            }
            assert!(!help.is_empty() && labels.len() <= 3, "{name}");
        }
    }

    #[test]
    fn the_reference_page_lists_every_metric_and_no_other() {
        let page = include_str!("../../docs/reference/metrics.md");
        let named: BTreeSet<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|line| line.split('`').next())
            .collect();
        let all: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(named, all);
        for Metric { name, labels, .. } in ALL {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{name}`")));
            let row = row.unwrap_or_default();
            assert!(labels.iter().all(|label| row.contains(label)), "{name}: {labels:?} in {row}");
        }
    }

    #[test]
    fn the_start_time_of_this_process_is_read() {
        if cfg!(target_os = "linux") {
            let (_, started) = times().unwrap();
            assert!(started > 1_600_000_000);
        }
    }
}
