//! The log: text lines or JSON lines on stderr. Also metrics and traces.
//!
//! A signed query gives access to the bucket until it expires. No code logs one on purpose. A text
//! that may contain one, such as the error of another library, goes through [`redact_query`] first.

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

/// Crates that log the content of files, which anybody can upload.
const SILENT: &str = "lofty=off,ogg_pager=off";

/// Crates whose `info` lines are details for an operator, by the beginning of their targets. They
/// log from `warn` up, unless `telemetry.log` names them.
const QUIET: [&str; 9] =
    ["actix", "aws", "h2", "hyper", "rustls", "s3s", "sea_orm", "sqlx", "tokio_cron_scheduler"];

/// An error and its sources in one line. A source that the error's own text already contains is not
/// repeated.
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

/// Why the log can't be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The directives can't be parsed, although the configuration was validated.
    #[error("telemetry.log can't be read")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The process has another log already.
    #[error("another log is already installed")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Flushes the log when it is dropped: first the traces that are not sent yet, then the lines that
/// are not written yet. If stderr accepts nothing for a second, the lines are lost.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct LogFlusher {
    _traces: Option<Traces>,
    _lines: WorkerGuard,
}

/// The largest number of lines that wait to be written. If there are more, threads that log wait
/// too: no line is dropped.
const WAITING_LINES: usize = 4096;

/// The largest number of bytes in one write.
const WRITTEN_AT_ONCE: usize = 64 * 1024;

/// Starts the log and the traces of this process. Called once.
pub fn init(
    config: &TelemetryConfig,
    traces: Option<Traces>,
) -> Result<LogFlusher, TelemetryError> {
    // A separate thread writes all lines that were logged since its last write. With a write for
    // each line, serving threads would wait for each other (`docs/development/performance.md`).
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
        // The filter applies to log lines only. Traces are not filtered.
        (Some(_), _) => registry.with(lines.with_filter(filter)).try_init()?,
        // A filter for the whole subscriber makes each span and line cheaper, most of all if no
        // directive depends on spans.
        (None, Some(targets)) => registry.with(targets.and_then(lines)).try_init()?,
        (None, None) => registry.with(filter.and_then(lines)).try_init()?,
    }
    Ok(LogFlusher { _traces: traces, _lines: writing })
}

/// The format with one JSON object per line.
fn in_json<S, W>(
    lines: fmt::Layer<S, DefaultFields, Format, W>,
) -> fmt::Layer<S, JsonLines, JsonLines, W>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    lines.fmt_fields(JsonLines).event_format(JsonLines)
}

/// The configured directives, after the directives for [`QUIET`] crates.
fn filter(directives: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let configured = EnvFilter::builder().parse(directives)?;
    if configured.max_level_hint().is_some_and(|level| level <= LevelFilter::WARN) {
        return EnvFilter::builder().parse(format!("{SILENT},{directives}"));
    }
    let quiet: Vec<String> = QUIET.iter().map(|name| format!("{name}=warn")).collect();
    // Later directives for the same target win.
    EnvFilter::builder().parse(format!("{SILENT},{},{directives}", quiet.join(",")))
}

/// The same filter, if no directive of it is about spans.
fn targets(filter: &EnvFilter) -> Option<Targets> {
    let directives = filter.to_string();
    if directives.contains('[') { None } else { directives.parse().ok() }
}

/// Removes the query of every URL and path in a text.
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

/// Whether a character ends a URL: a query never contains it unescaped. A query may contain
/// brackets and single quotes, so if a text puts them around a URL, they are removed with the
/// query.
fn ends_url(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '<' | '>' | '`')
}

/// Distinguishes a path with a query from `/path?` at the end of a question.
fn has_query(query: &str) -> bool {
    query.chars().next().is_some_and(|c| !ends_url(c))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::captured::Captured;
    use super::*;

    /// The lines that `work` logs, without their timestamps.
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
            // The microseconds are always written, so that lines sort by time.
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
    fn queries_are_removed_wherever_they_are() {
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
        let error = filter("error").unwrap().to_string();
        assert!(error.contains("lofty=off") && !error.contains("warn"), "{error}");
    }

    #[test]
    fn directives_without_spans_filter_only_by_target() {
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
