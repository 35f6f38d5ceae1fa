//! The log: lines for people or JSON for machines, on stderr. Beside it metrics and traces.
//!
//! Signed queries are keys to the bucket until they expire. Nothing logs one on purpose;
//! a text that may hold one, such as another library's error, goes through
//! [`redact_query`] first.

#[cfg(test)]
pub(crate) mod captured;
mod json_lines;
pub mod metrics;
pub mod traces;

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use self::json_lines::JsonLines;
use self::traces::Traces;
use crate::config::{LogFormat, TelemetryConfig};

/// Crates whose `info` is detail to an operator, by the beginning of their targets. They
/// log from `warn` up unless `telemetry.log` names them.
const QUIET: [&str; 9] =
    ["actix", "aws", "h2", "hyper", "rustls", "s3s", "sea_orm", "sqlx", "tokio_cron_scheduler"];

/// An error and what stands behind it, in one line; what an error repeats of the one behind
/// it is said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The directives don't parse; the configuration has checked them before.
    #[error("telemetry.log can't be read")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something else logs already.
    #[error("the log is set up already")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Ends the log: what is left of traces is sent and what is left of lines written, in this
/// order, when it is dropped. Where stderr takes nothing for a second, that is not waited for.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct Guard {
    _traces: Option<Traces>,
    _lines: WorkerGuard,
}

/// So many lines may wait to be written. Then those who log wait too: no line is dropped.
const WAITING_LINES: usize = 4096;

/// How many bytes of lines are written at once at most.
const WRITTEN_AT_ONCE: usize = 64 * 1024;

/// Starts the log of this process, and its traces; once.
pub fn init(config: &TelemetryConfig, traces: Option<Traces>) -> Result<Guard, TelemetryError> {
    // A thread of its own writes all lines that came since its last write. With a write for each
    // line, serving threads wait for each other (`docs/development/performance.md`).
    let (lines, writing) = NonBlockingBuilder::default()
        .lossy(false)
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("log")
        .finish(BufWriter::with_capacity(WRITTEN_AT_ONCE, io::stderr()));
    let lines = fmt::layer().with_writer(lines);
    let lines = match config.log_format {
        LogFormat::Pretty => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.compact().with_ansi(colours).boxed()
        }
        LogFormat::Json => in_json(lines).boxed(),
    };
    let filter = filter(config.log.as_str())?;
    let registry = tracing_subscriber::registry().with(traces.as_ref().map(Traces::layer));
    match (&traces, targets(&filter)) {
        // What is not logged is traced nevertheless: the filter is of the lines alone.
        (Some(_), _) => registry.with(lines.with_filter(filter)).try_init()?,
        // A filter of everything costs each span and line less, and least where it need not
        // follow the spans.
        (None, Some(targets)) => registry.with(targets.and_then(lines)).try_init()?,
        (None, None) => registry.with(filter.and_then(lines)).try_init()?,
    }
    Ok(Guard { _traces: traces, _lines: writing })
}

/// One JSON object a line.
fn in_json<S, W>(
    lines: fmt::Layer<S, DefaultFields, Format, W>,
) -> fmt::Layer<S, JsonLines, JsonLines, W>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    lines.fmt_fields(JsonLines).event_format(JsonLines)
}

/// The configured directives on top of those for [`QUIET`] crates.
fn filter(directives: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let asked = EnvFilter::builder().parse(directives)?;
    if asked.max_level_hint().is_some_and(|level| level <= LevelFilter::WARN) {
        return Ok(asked);
    }
    let quiet: Vec<String> = QUIET.iter().map(|name| format!("{name}=warn")).collect();
    // Later directives for the same target win.
    EnvFilter::builder().parse(format!("{},{directives}", quiet.join(",")))
}

/// The same filter, where no directive of it is about spans.
fn targets(filter: &EnvFilter) -> Option<Targets> {
    let directives = filter.to_string();
    if directives.contains('[') { None } else { directives.parse().ok() }
}

/// Takes the query off every URL and path in a text.
///
/// ```
/// use upload_coordinator::telemetry::redact_query;
/// let text = "PUT https://s3.example.com/b/k?X-Amz-Signature=abc failed";
/// assert_eq!(redact_query(text), "PUT https://s3.example.com/b/k?[redacted] failed");
/// ```
pub fn redact_query(text: &str) -> Cow<'_, str> {
    if !text.contains('?') {
        return Cow::Borrowed(text);
    }
    let mut redacted = String::with_capacity(text.len());
    for word in text.split_inclusive(ends_url) {
        match word.split_once('?') {
            Some((before, query)) if before.contains('/') && has_query(query) => {
                redacted.push_str(before);
                redacted.push_str("?[redacted]");
                redacted.extend(word.chars().next_back().filter(|c| ends_url(*c)));
            }
            _ => redacted.push_str(word),
        }
    }
    Cow::Owned(redacted)
}

/// Characters that no query holds unescaped. Brackets and single quotes it may hold: where
/// text puts them around a URL, they go with the query.
fn ends_url(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '<' | '>' | '`')
}

/// Tells `/path?` at the end of a question from a path with a query.
fn has_query(query: &str) -> bool {
    query.chars().next().is_some_and(|c| !ends_url(c))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::captured::Captured;
    use super::*;

    /// The lines that this work logs, without their timestamps.
    fn logged(work: impl FnOnce()) -> Vec<Value> {
        let log = Captured::default();
        let to_log = log.clone();
        let lines = fmt::layer().with_writer(move || to_log.clone());
        let subscriber = tracing_subscriber::registry().with(in_json(lines));
        tracing::subscriber::with_default(subscriber, work);
        let text = log.text();
        let parsed = text.lines().map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
            // The microseconds are always there: lines sort by time.
            assert_eq!(timestamp.as_str().unwrap().len(), 27, "{timestamp}");
            line
        });
        parsed.collect()
    }

    #[test]
    fn a_json_line_has_the_events_fields_at_the_top_and_the_requests_under_span() {
        let lines = logged(|| {
            let span =
                tracing::info_span!("request", request_id = "r-1", owner = tracing::field::Empty);
            let _in = span.enter();
            span.record("owner", "me");
            tracing::info!(status = 200, late = false, r#type = "t", "answered \"{}\"", 7);
        });
        let expected = json!({
            "level": "INFO", "message": "answered \"7\"", "status": 200, "late": false, "type": "t",
            "target": "upload_coordinator::telemetry::tests",
            "span": {"name": "request", "request_id": "r-1", "owner": "me"},
        });
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn a_json_line_outside_of_a_request_has_no_span() {
        let lines = logged(|| tracing::warn!(target: "a \"target\"", "said"));
        let expected = json!({"level": "WARN", "message": "said", "target": "a \"target\""});
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn queries_are_cut_off_wherever_they_stand() {
        let cases = [
            ("https://h/b/k?X-Amz-Signature=1", "https://h/b/k?[redacted]"),
            ("GET \"http://h:9000/k?a=1&b=2\" 403", "GET \"http://h:9000/k?[redacted]\" 403"),
            ("url (https://h/k?a=1): timed out", "url (https://h/k?[redacted] timed out"),
            ("/b/k?a=1 and /b/l?b=2", "/b/k?[redacted] and /b/l?[redacted]"),
            ("https://h/k?a=(1)'2'&b={3}", "https://h/k?[redacted]"),
            ("https://h/k?a=1?b=2", "https://h/k?[redacted]"),
            ("is there a file at /b/k?", "is there a file at /b/k?"),
            ("what? nothing", "what? nothing"),
            ("https://h/k", "https://h/k"),
            ("ключ https://h/ключ?a=ё", "ключ https://h/ключ?[redacted]"),
        ];
        for (text, redacted) in cases {
            assert_eq!(redact_query(text), redacted);
        }
    }

    #[test]
    fn libraries_are_quiet_unless_they_are_named() {
        let info = filter("info").unwrap().to_string();
        assert!(info.contains("aws=warn") && info.contains("sqlx=warn"), "{info}");
        let named = filter("debug,sqlx=trace").unwrap().to_string();
        assert!(named.contains("sqlx=trace") && !named.contains("sqlx=warn"), "{named}");
        assert_eq!(filter("error").unwrap().to_string(), "error");
    }

    #[test]
    fn what_is_not_about_spans_is_filtered_by_targets_alone() {
        let plain = |text: &str| targets(&filter(text).unwrap());
        for text in ["info", "debug,sqlx=trace", "warn,", "off", "upload_coordinator::http"] {
            let targets = plain(text).unwrap();
            let said = filter(text).unwrap();
            assert_eq!(
                said.max_level_hint(),
                targets.iter().map(|(_, level)| level).chain(targets.default_level()).max(),
                "{text}"
            );
        }
        assert_eq!(plain("info,[request{owner=me}]=debug"), None);
        assert_eq!(plain("info,[{owner}]=debug"), None);
    }
}
