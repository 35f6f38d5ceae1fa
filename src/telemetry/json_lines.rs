//! The JSON log: an object a line, its event's fields at the top and those of the request
//! under `span`.
//!
//! `tracing_subscriber`'s own JSON format, of the same shape, reads back what it wrote of a span
//! for each line and for each field that is added; here both are appended as they are.

use std::cell::Cell;
use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, span};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::domain::clock::{Clock as _, SystemClock, in_rfc3339};

/// Formats events and the fields of spans; the latter are kept as `"name":value,` each.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonLines;

thread_local! {
    /// Where texts are put together: a writer takes each piece by a call of its own.
    static ROOM: Cell<String> = const { Cell::new(String::new()) };
}

/// Hands a text over in one piece.
fn in_one_piece(mut writer: Writer<'_>, put: impl FnOnce(&mut String)) -> fmt::Result {
    // Whatever is written down may log something itself: that has a room of its own.
    let mut text = ROOM.take();
    text.clear();
    put(&mut text);
    let written = writer.write_str(&text);
    ROOM.set(text);
    written
}

impl<'writer> FormatFields<'writer> for JsonLines {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        in_one_piece(writer, |text| fields.record(&mut Members(text)))
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
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        in_one_piece(writer, |text| {
            text.push_str("{\"timestamp\":\"");
            in_rfc3339(SystemClock.now(), 6, |now| text.push_str(now));
            text.push_str("\",\"level\":\"");
            text.push_str(metadata.level().as_str());
            text.push_str("\",");
            event.record(&mut Members(text));
            text.push_str("\"target\":\"");
            escape(text, metadata.target());
            let parent = event.parent().and_then(|id| context.span(id));
            if let Some(span) = parent.or_else(|| context.lookup_current()) {
                text.push_str("\",\"span\":{");
                if let Some(fields) = span.extensions().get::<FormattedFields<Self>>() {
                    text.push_str(&fields.fields);
                }
                text.push_str("\"name\":\"");
                text.push_str(span.name());
                text.push_str("\"}}\n");
            } else {
                text.push_str("\"}\n");
            }
        })
    }
}

/// Writes fields as members of an object, each with a comma behind it.
struct Members<'a>(&'a mut String);

impl Members<'_> {
    /// Writes a member; `around` is what stands before and behind its value.
    fn write(
        &mut self,
        field: &Field,
        (before, behind): (&str, &str),
        value: impl FnOnce(&mut String),
    ) {
        // What the bridge from the `log` crate says of itself stands in the metadata.
        if field.name().starts_with("log.") {
            return;
        }
        let name = field.name();
        self.0.push('"');
        self.0.push_str(name.strip_prefix("r#").unwrap_or(name));
        self.0.push_str(before);
        value(self.0);
        self.0.push_str(behind);
    }

    fn bare(&mut self, field: &Field, value: &str) {
        self.write(field, BARE, |text| text.push_str(value));
    }
}

const BARE: (&str, &str) = ("\":", ",");
const QUOTED: (&str, &str) = ("\":\"", "\",");

impl Visit for Members<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field, zmij::Buffer::new().format_finite(value));
        } else {
            self.bare(field, "null");
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, itoa::Buffer::new().format(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, itoa::Buffer::new().format(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, if value { "true" } else { "false" });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, QUOTED, |text| escape(text, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, QUOTED, |text| {
            let _ = write!(Escaping(text), "{value:?}");
        });
    }
}

/// Escapes what is written.
struct Escaping<'a>(&'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text);
        Ok(())
    }
}

/// Adds a text, and escapes what may not stand in a JSON text (RFC 8259, section 7).
fn escape(to: &mut String, text: &str) {
    // Nearly always there is none, and to look at all of them at once takes a fraction.
    if !text.bytes().fold(false, |any, b| any | is_special(b)) {
        return to.push_str(text);
    }
    let mut rest = text;
    // Byte by byte: what is escaped is ASCII, and no byte of a longer character is.
    while let Some(at) = rest.bytes().position(is_special) {
        let (plain, tail) = rest.split_at(at);
        to.push_str(plain);
        // Each of them is one byte.
        let (special, tail) = tail.split_at(1);
        match special {
            "\"" => to.push_str("\\\""),
            "\\" => to.push_str("\\\\"),
            "\n" => to.push_str("\\n"),
            control => {
                let _ = write!(to, "\\u{:04x}", control.as_bytes()[0]);
            }
        }
        rest = tail;
    }
    to.push_str(rest);
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | ..=0x1f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::telemetry::captured::Captured;

    /// What is logged by both formats: ours, and `tracing_subscriber`'s own.
    fn logged(work: impl Fn()) -> [Vec<Value>; 2] {
        let (ours, theirs) = (Captured::default(), Captured::default());
        let (to_ours, to_theirs) = (ours.clone(), theirs.clone());
        let our_layer = tracing_subscriber::fmt::layer()
            .fmt_fields(JsonLines)
            .event_format(JsonLines)
            .with_writer(move || to_ours.clone());
        let their_layer = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_writer(move || to_theirs.clone());
        for subscriber in [
            Box::new(tracing_subscriber::registry().with(our_layer))
                as Box<dyn Subscriber + Send + Sync>,
            Box::new(tracing_subscriber::registry().with(their_layer)),
        ] {
            tracing::subscriber::with_default(subscriber, &work);
        }
        [ours, theirs].map(|log| {
            let text = log.text();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines
                .map(|mut line| {
                    let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
                    assert_eq!(timestamp.as_str().unwrap().len(), 27, "{timestamp}");
                    line
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_line_says_what_the_librarys_own_format_says(
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
            prop_assert_eq!(&ours[1], &theirs[1]);
            // The text of a float may differ; its value may not.
            for (ours, theirs) in ours.iter().zip(&theirs) {
                for (name, value) in theirs.as_object().unwrap() {
                    if name == "real" {
                        let (ours, theirs) = (ours[name].as_f64(), value.as_f64());
                        let apart = ours.zip(theirs).map(|(a, b)| (a - b).abs() / a.abs().max(1.0));
                        prop_assert!(ours == theirs || apart.is_some_and(|apart| apart < 1e-12));
                    } else {
                        prop_assert_eq!(&ours[name], value);
                    }
                }
            }
        }
    }

    #[test]
    fn outside_of_a_span_there_is_none() {
        let [ours, _] = logged(|| tracing::info!(target: "a \"target\"", "said"));
        let wanted = json!({"level": "INFO", "message": "said", "target": "a \"target\""});
        assert_eq!(ours, [wanted]);
    }
}
