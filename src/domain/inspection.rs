//! Inspection: inspectors, such as a virus scanner, examine a file before it is served.
//!
//! A verdict is about the bytes of one key, ETag and version. It does not apply to other bytes at
//! the same key.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::backoff::Backoff;
use super::clock::Timestamp;
use super::ids::UploadId;

/// The name of the built-in inspector.
pub const MEDIA: &str = "media";

/// Pauses between the attempts of an inspection.
pub const RETRY: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

/// The name of an inspector: `[inspectors.<name>]`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct InspectorName(String);

impl InspectorName {
    /// A name from the configuration.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InspectorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The results of inspectors about a file, by inspector.
pub type Annotations = BTreeMap<InspectorName, Annotation>;

/// The result of one inspector about a file: a JSON object.
pub type Annotation = Map<String, Value>;

/// What happens if an inspector has no verdict: it fails, or it can't inspect the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// The upload stays `inspecting`.
    Hold,
    /// The file is accepted.
    Accept,
    /// The file is rejected.
    Reject,
}

/// An inspector's decision about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The file may be served.
    Accept,
    /// The file must not be served, for this reason.
    Reject(String),
}

impl Verdict {
    /// The name in the API.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject(_) => "reject",
        }
    }
}

/// The result of an inspection.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// The inspector.
    pub inspector: InspectorName,
    /// The ETag of the inspected bytes.
    pub etag: String,
    /// The version of the inspected bytes, in a bucket with versioning.
    pub version_id: Option<String>,
    /// The decision.
    pub verdict: Verdict,
    /// The additional results of the inspector.
    pub annotation: Annotation,
    /// Why the configuration decided (see [`Fallback`]). `None` if the inspector decided.
    pub forced_by: Option<String>,
    /// Whether this inspection is part of a backfill, which examines files that are already served.
    /// Only then a verdict about an `uploaded` file has an effect.
    pub backfill: bool,
}

impl Inspected {
    /// The sentence for the database: the inspector and its reason.
    pub fn detail(&self) -> Option<String> {
        let reason = match &self.verdict {
            Verdict::Reject(reason) => Some(reason),
            Verdict::Accept => self.forced_by.as_ref(),
        };
        reason.map(|reason| format!("{}: {reason}", self.inspector))
    }
}

/// The state of an inspection in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InspectionStatus {
    /// Waiting, or in progress.
    Queued,
    /// The inspector sends its verdict later.
    Deferred,
    /// The inspector can't inspect the file. An operator decides.
    Held,
    /// As [`Self::Deferred`], but for a file that is served during the inspection.
    Backfill,
}

impl InspectionStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Queued, Self::Deferred, Self::Held, Self::Backfill];

    /// The name in the database and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Deferred => "deferred",
            Self::Held => "held",
            Self::Backfill => "backfill",
        }
    }
}

impl std::str::FromStr for InspectionStatus {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.name() == name).ok_or(())
    }
}

/// An inspection in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedInspection {
    /// The upload.
    pub upload: UploadId,
    /// The inspector.
    pub inspector: InspectorName,
    /// The ETag of the bytes to inspect.
    pub etag: String,
    /// Their version, in a bucket with versioning.
    pub version_id: Option<String>,
    /// Its state.
    pub status: InspectionStatus,
    /// The number of claims by workers. A worker can finish the inspection only if this number is
    /// still that of its own claim.
    pub attempts: i32,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// The last error.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_sentence_names_the_inspector() {
        let inspected = |verdict, forced_by: Option<&str>| Inspected {
            inspector: InspectorName::new("clamav"),
            etag: "a".to_owned(),
            version_id: None,
            verdict,
            annotation: Annotation::new(),
            forced_by: forced_by.map(str::to_owned),
            backfill: false,
        };
        let detail = |verdict, forced_by| inspected(verdict, forced_by).detail();
        let reject = || Verdict::Reject("Eicar".to_owned());
        assert_eq!(detail(reject(), None).as_deref(), Some("clamav: Eicar"));
        assert_eq!(detail(Verdict::Accept, Some("down")).as_deref(), Some("clamav: down"));
        assert_eq!(detail(Verdict::Accept, None), None);
    }
}
