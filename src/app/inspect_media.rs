//! The built-in inspector `media` reads the headers of a file during its verification.
//!
//! It needs no queue and no second process, so the upload has no separate status for it. The parser
//! (`domain::media`) does no I/O. It returns which range of the file it needs next. This module
//! reads the ranges, and limits the parser's time and threads.

use std::time::Instant;

use serde_json::Value;
use tokio::sync::Semaphore;

use crate::domain::inspection::{Annotation, Fallback, MEDIA};
use crate::domain::media::{self, Finding, Inspected, Parts, Step, Stop, Unscannable};
use crate::domain::policy::MediaInspection;
use crate::domain::reject_reason::RejectReason;
use crate::domain::rules::Violation;
use crate::domain::upload::ObjectFacts;
use crate::storage::{Store, StoreError};
use crate::telemetry::metrics as names;

/// The result of the inspector for an object.
#[derive(Debug, Default)]
pub(super) struct MediaResult {
    /// What to record. `None` if the object is no media file.
    pub annotation: Option<Annotation>,
    /// Why the object is rejected: the rule of the policy that it breaks.
    pub broken: Option<String>,
}

impl MediaResult {
    /// Why there are no facts, if the object was not read in time.
    pub fn error(&self) -> Option<&str> {
        self.annotation.as_ref()?.get("error")?.as_str()
    }
}

/// Inspects an object. `head` is its first bytes, up to [`media::HEAD_LEN`]. If the parser needs
/// more bytes, they are read from the store. The read fails if the object no longer has the ETag of
/// `facts`.
pub(super) async fn inspect_media(
    settings: &MediaInspection,
    threads: &Semaphore,
    store: &Store,
    key: &str,
    facts: &ObjectFacts,
    head: bytes::Bytes,
) -> Result<MediaResult, StoreError> {
    if facts.size > settings.max_size {
        let sentence =
            format!("File is larger than inspectors.media.max_size={}", settings.max_size);
        return Ok(unread("unscannable", sentence, settings.on_unscannable));
    }
    let parts = Parts::new(facts.size, head);
    // Stops the parser after the time limit, and also if the request is cancelled.
    let _stop = StopWhenDropped(parts.stop());
    let begun = Instant::now();
    let reading = read(threads, store, key, facts, parts);
    let inspected = match tokio::time::timeout(settings.timeout, reading).await {
        // A busy runtime may deliver a result after the time limit.
        Ok(inspected) if begun.elapsed() <= settings.timeout => inspected?,
        _ => {
            let limit = settings.timeout.as_secs_f64();
            let sentence = format!("File was not read within inspectors.media.timeout={limit}s");
            return Ok(unread("error", sentence, settings.on_error));
        }
    };
    metrics::histogram!(names::INSPECTION_DURATION, "inspector" => MEDIA).record(begun.elapsed());
    let mut annotation = inspected.media.as_ref().map(to_annotation);
    let (outcome, broken) = match settings.rules.check(&inspected) {
        Finding::Accept => ("accepted", None),
        Finding::Reject(sentence) => ("rejected", Some(sentence)),
        Finding::Unscannable(sentence) => {
            let recorded = annotation.get_or_insert_default();
            recorded.insert("unscannable".to_owned(), Value::String(sentence.clone()));
            ("unscannable", (settings.on_unscannable == Fallback::Reject).then_some(sentence))
        }
    };
    count(outcome);
    Ok(MediaResult { annotation, broken })
}

async fn read(
    threads: &Semaphore,
    store: &Store,
    key: &str,
    facts: &ObjectFacts,
    mut parts: Parts,
) -> Result<Inspected, StoreError> {
    loop {
        let step = {
            let _thread = threads.acquire().await;
            let parts = parts.clone();
            // A panic of a parser ends only its own task.
            tokio::task::spawn_blocking(move || media::inspect(&parts)).await
        };
        match step {
            Ok(Step::Done(inspected)) => return Ok(inspected),
            Ok(Step::Read(range)) => {
                let start = range.start;
                parts.add(start, store.objects.read(key, range, &facts.etag).await?);
            }
            Err(_) => {
                return Ok(Inspected { media: None, problem: Some(Unscannable::Panicked) });
            }
        }
    }
}

/// The result for an object that was not read, or not read in time.
fn unread(member: &str, sentence: String, fallback: Fallback) -> MediaResult {
    count(if member == "error" { "failed" } else { "unscannable" });
    let recorded = (member.to_owned(), Value::String(sentence.clone()));
    MediaResult {
        annotation: Some(Annotation::from_iter([recorded])),
        broken: (fallback == Fallback::Reject).then_some(sentence),
    }
}

/// The violation of an object that the inspector rejects.
pub(super) fn violation(sentence: String) -> Violation {
    Violation { reason: RejectReason::Inspection, message: format!("{MEDIA}: {sentence}") }
}

fn to_annotation(media: &media::Media) -> Annotation {
    match serde_json::to_value(media) {
        Ok(Value::Object(members)) => members,
        // Never happens: a struct is a JSON object, and its numbers are finite.
        _ => Annotation::new(),
    }
}

fn count(outcome: &'static str) {
    metrics::counter!(names::INSPECTIONS, "inspector" => MEDIA, "outcome" => outcome).increment(1);
}

struct StopWhenDropped(Stop);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}
