//! The JSON log. Each line is one object: the fields of the event are at the top level, and the
//! fields of the request are under `span`.
//!
//! The JSON format of `tracing_subscriber` writes the same lines, but is slower
//! (`docs/development/performance.md`): it parses the text of a span's fields for each line and
//! each added field. Here the text is appended without parsing.

use std::fmt;

use chrono::SecondsFormat;
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, span};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::domain::clock::{Clock as _, SystemClock};

/// Formats events, and the fields of spans. The text of a span's fields is a list of JSON members,
/// each followed by a comma.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonLines;

/// The usual length of a line, in bytes.
const USUAL_LEN: usize = 512;

impl<'writer> FormatFields<'writer> for JsonLines {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut members = Members(Vec::with_capacity(USUAL_LEN));
        fields.record(&mut members);
        writer.write_str(members.text()?)
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &span::Record<'_>,
    ) -> fmt::Result {
        self.format_fields(current.as_writer(), fields)
    }
}

impl<S> FormatEvent<S, JsonLines> for JsonLines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonLines>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let mut line = Members(Vec::with_capacity(USUAL_LEN));
        line.raw("{");
        line.add("timestamp", &SystemClock.now().to_rfc3339_opts(SecondsFormat::Micros, true));
        line.add("level", metadata.level().as_str());
        event.record(&mut line);
        line.add("target", metadata.target());
        let parent = event.parent().and_then(|id| context.span(id));
        if let Some(span) = parent.or_else(|| context.lookup_current()) {
            line.raw("\"span\":{");
            if let Some(fields) = span.extensions().get::<FormattedFields<Self>>() {
                line.raw(&fields.fields);
            }
            line.add("name", span.name());
            line.close();
            line.raw(",");
        }
        line.close();
        line.raw("\n");
        // One write for the whole line, because a writer may take a lock for each write.
        writer.write_str(line.text()?)
    }
}

/// Members of an object, each followed by a comma.
struct Members(Vec<u8>);

impl Members {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn add(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        let before = self.0.len();
        let written = serde_json::to_writer(&mut self.0, name).and_then(|()| {
            self.0.push(b':');
            serde_json::to_writer(&mut self.0, value)
        });
        match written {
            Ok(()) => self.0.push(b','),
            // The line is valid without this member.
            Err(_) => self.0.truncate(before),
        }
    }

    /// Closes the innermost object, which must not be empty: replaces the comma after its last
    /// member.
    fn close(&mut self) {
        self.0.pop();
        self.0.push(b'}');
    }

    fn field(&mut self, field: &Field, value: &(impl Serialize + ?Sized)) {
        let name = field.name();
        // The `log` crate's bridge adds these fields. The metadata contains them already.
        if !name.starts_with("log.") {
            self.add(name.strip_prefix("r#").unwrap_or(name), value);
        }
    }

    fn text(&self) -> Result<&str, fmt::Error> {
        std::str::from_utf8(&self.0).map_err(|_| fmt::Error)
    }
}

impl Visit for Members {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use tracing_subscriber::fmt;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::telemetry::captured::Captured;

    /// The lines of our format and of `tracing_subscriber`, without their timestamps.
    fn logged(work: impl Fn()) -> [Vec<Value>; 2] {
        let logs = [Captured::default(), Captured::default()];
        let [ours, theirs] = logs.clone().map(|log| fmt::layer().with_writer(move || log.clone()));
        let ours = ours.fmt_fields(JsonLines).event_format(JsonLines);
        let theirs = theirs.json().flatten_event(true).with_span_list(false);
        let registry = tracing_subscriber::registry;
        tracing::subscriber::with_default(registry().with(ours), &work);
        tracing::subscriber::with_default(registry().with(theirs), &work);
        logs.map(|log| {
            let parse = |line: &str| {
                let mut line: Value = serde_json::from_str(line).unwrap();
                let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
                // The microseconds are always written, so that lines sort by time.
                assert_eq!(timestamp.as_str().unwrap().len(), 27, "{timestamp}");
                line
            };
            log.text().lines().map(parse).collect()
        })
    }

    proptest! {
        #[test]
        fn lines_equal_those_of_the_json_format_of_tracing_subscriber(
            text in ".{0,40}", control in "[\x00-\x1f\"\\\\]{0,8}", number: i64, real: f64, truth: bool,
        ) {
            let [ours, theirs] = logged(|| {
                let span = tracing::info_span!("request", id = %text, late = tracing::field::Empty);
                let _in = span.enter();
                tracing::info!(text, number, real, truth, control, r#type = "t", "answered {number}");
                span.record("late", control.as_str());
                tracing::warn!(optional = Some(1), none = None::<u8>, debug = ?control, %text);
            });
            prop_assert_eq!(ours.len(), 2);
            prop_assert_eq!(ours, theirs);
        }
    }
}
