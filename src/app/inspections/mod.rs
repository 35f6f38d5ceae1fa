//! Inspections: inspectors examine verified files before they are served.
//!
//! The queue ([`crate::db::inspections`]) records which upload waits for which inspector. One
//! inspection claims a row, examines the object, and applies the verdict as an event of the upload.
//! The transition checks whether the verdict is about the current bytes of the upload, and its
//! commit removes the row. So a verdict that is late, repeated or about other bytes is harmless.
//!
//! To add a kind of inspector, add a file here with a type that implements [`Examiner`], a kind in
//! `config::inspectors`, and a line in `cli::adapters::inspectors`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::TimeDelta;
use tokio::time::timeout;

use super::{App, AppError, Result};
use crate::domain::detail::cut;
use crate::domain::inspection::{
    Annotation, Fallback, Inspected, InspectionStatus, InspectorName, QueuedInspection, RETRY,
    Verdict,
};
use crate::domain::transition::Event;
use crate::domain::upload::{ConfirmedBy, ObjectFacts, State};
use crate::domain::{Timestamp, Upload};
use crate::storage::StoreError;
use crate::telemetry::{chain, metrics as names};

pub mod backfill;
pub mod clamd;
pub mod http;
pub mod verdicts;

pub use clamd::ClamdExaminer;
pub use http::HttpExaminer;

/// How long a claim lasts beyond the time limit of an attempt.
const LEASE_MARGIN: Duration = Duration::from_secs(15);

/// The inspectors by name.
pub type Inspectors = BTreeMap<InspectorName, Arc<Inspector>>;

/// An inspector that runs after the verification.
pub struct Inspector {
    /// The name in the configuration: `[inspectors.<name>]`.
    pub name: InspectorName,
    /// The way to call it.
    pub examiner: Box<dyn Examiner>,
    /// The time limit of one attempt.
    pub timeout: Duration,
    /// The time limit for a verdict, counted from the arrival of the file.
    pub deadline: TimeDelta,
    /// The maximum size of a file that it can examine, in bytes.
    pub max_size: u64,
    /// Concurrent inspections of this process.
    pub concurrency: usize,
    /// What happens if there is no verdict by the deadline.
    pub on_error: Fallback,
    /// What happens if it can't examine a file.
    pub on_unscannable: Fallback,
}

/// A file to examine.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// The inspector's name.
    pub inspector: &'a InspectorName,
    /// The upload.
    pub upload: &'a Upload,
    /// The object. The verdict is about these bytes.
    pub facts: &'a ObjectFacts,
    /// The time limit for a verdict, counted from the arrival of the object.
    pub deadline: TimeDelta,
}

/// The result of an examination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opinion {
    /// A verdict, with the additional results of the inspector.
    Verdict(Verdict, Annotation),
    /// The inspector can't examine this file, for this reason.
    Unscannable(String),
    /// The inspector sends its verdict later.
    Deferred,
}

/// Why an examination failed. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// The object could not be read.
    #[error("the object could not be read")]
    Store(#[from] StoreError),
    /// The inspector failed.
    #[error("{0}")]
    Failed(String),
}

/// Examines files.
#[async_trait]
pub trait Examiner: Send + Sync {
    /// Examines one file.
    async fn examine(&self, app: &App, file: File<'_>) -> Result<Opinion, ExamineError>;
}

/// The outcome of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The inspector accepted the file.
    Accepted,
    /// The inspector rejected the file.
    Rejected,
    /// The inspector sends its verdict later.
    Deferred,
    /// The inspector can't examine the file.
    Unscannable,
    /// The attempt failed.
    Failed,
    /// The upload no longer waits for it, or has other bytes.
    Outdated,
}

impl Outcome {
    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Deferred => "deferred",
            Self::Unscannable => "unscannable",
            Self::Failed => "failed",
            Self::Outdated => "outdated",
        }
    }
}

impl Inspector {
    /// Examines a file within the limits of size and time.
    pub async fn examine(&self, app: &App, upload: &Upload, facts: &ObjectFacts) -> Attempt {
        if facts.size > self.max_size {
            let (size, most) = (facts.size, self.max_size);
            return Ok(Opinion::Unscannable(format!("{size} bytes exceed max_size={most}")));
        }
        let file = File { inspector: &self.name, upload, facts, deadline: self.deadline };
        let examined = timeout(self.timeout, self.examiner.examine(app, file)).await;
        examined.unwrap_or_else(|_| {
            let seconds = self.timeout.as_secs_f64();
            Err(ExamineError::Failed(format!("no verdict within {seconds} s")))
        })
    }

    /// The event of a verdict about a file.
    pub fn verdict(
        &self,
        facts: &ObjectFacts,
        verdict: Verdict,
        annotation: Annotation,
    ) -> Inspected {
        about(facts, self.name.clone(), verdict, annotation)
    }

    /// The event of a verdict that the configuration decides because the inspector returns none.
    /// `None` if the setting is `hold`.
    pub fn forced(
        &self,
        facts: &ObjectFacts,
        fallback: Fallback,
        (key, why): (&str, &str),
    ) -> Option<Inspected> {
        let verdict = match fallback {
            Fallback::Hold => return None,
            Fallback::Accept => Verdict::Accept,
            Fallback::Reject => Verdict::Reject(why.to_owned()),
        };
        let annotation = Annotation::from_iter([(key.to_owned(), why.into())]);
        let forced_by = Some(format!("accepted without a verdict: {why}"));
        Some(Inspected { forced_by, ..self.verdict(facts, verdict, annotation) })
    }
}

/// The result of an attempt.
pub type Attempt = Result<Opinion, ExamineError>;

/// The object to inspect, if a row of the queue is about the upload's current object.
fn awaited<'a>(upload: &'a Upload, row: &QueuedInspection) -> Option<&'a ObjectFacts> {
    let State::Inspecting(inspecting) = &upload.state else { return None };
    let facts = &inspecting.arrived.facts;
    let same = facts.etag == row.etag && facts.version_id == row.version_id;
    (same && inspecting.waiting_for.contains(&row.inspector)).then_some(facts)
}

impl App {
    /// Claims up to `limit` due inspections of an inspector. If the inspector is down, it claims
    /// only inspections whose deadline has passed, because the configuration decides them.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn claim_inspections(
        &self,
        inspector: &Inspector,
        limit: usize,
        only_overdue: bool,
    ) -> Result<Vec<QueuedInspection>> {
        let now = self.now();
        let lease = TimeDelta::from_std(inspector.timeout + LEASE_MARGIN).unwrap_or(TimeDelta::MAX);
        let queued_before = only_overdue.then(|| now - inspector.deadline);
        let queue = self.db.inspections();
        let limit = limit.try_into().unwrap_or(u64::MAX);
        Ok(queue.claim(&inspector.name, now, now + lease, limit, queued_before).await?)
    }

    /// Returns a claimed inspection to the queue that was not started.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn release_inspection(&self, claimed: &QueuedInspection) -> Result<()> {
        let (queue, error) = (self.db.inspections(), claimed.error.clone());
        Ok(queue.record(claimed, claimed.status, Some(self.now()), error).await?)
    }

    /// Makes one attempt of a claimed inspection.
    ///
    /// # Errors
    /// If the database fails, or the verdict can't be applied. The row is due again after its
    /// lease.
    pub async fn inspect(
        &self,
        inspector: &Inspector,
        claimed: &QueuedInspection,
    ) -> Result<Outcome> {
        let begun = Instant::now();
        let outcome = self.attempt(inspector, claimed).await?;
        let name = || inspector.name.as_str().to_owned();
        metrics::counter!(names::INSPECTIONS, "inspector" => name(), "outcome" => outcome.name())
            .increment(1);
        metrics::histogram!(names::INSPECTION_DURATION, "inspector" => name())
            .record(begun.elapsed().as_secs_f64());
        Ok(outcome)
    }

    async fn attempt(&self, inspector: &Inspector, claimed: &QueuedInspection) -> Result<Outcome> {
        let upload = self.db.uploads().find_any_owner(claimed.upload).await?;
        let Some((upload, facts)) =
            upload.as_ref().and_then(|upload| Some((upload, awaited(upload, claimed)?)))
        else {
            self.db.inspections().delete(claimed).await?;
            return Ok(Outcome::Outdated);
        };
        let overdue = self.now() > claimed.queued_at + inspector.deadline;
        // A deferred inspection is due when its deadline has passed.
        if claimed.status == InspectionStatus::Deferred && inspector.on_error != Fallback::Hold {
            let why = "the inspector deferred its verdict and did not send it in time";
            return self.fail(inspector, claimed, upload, facts, why.to_owned()).await;
        }
        match inspector.examine(self, upload, facts).await {
            Ok(Opinion::Verdict(verdict, annotation)) => {
                let outcome = match verdict {
                    Verdict::Accept => Outcome::Accepted,
                    Verdict::Reject(_) => Outcome::Rejected,
                };
                let inspected = inspector.verdict(facts, verdict, annotation);
                self.apply(upload.clone(), &Event::Inspected(inspected)).await?;
                Ok(outcome)
            }
            Ok(Opinion::Deferred) => {
                let from = if overdue { self.now() } else { claimed.queued_at };
                let until = Some(from + inspector.deadline);
                self.postpone(claimed, InspectionStatus::Deferred, until, None).await?;
                Ok(Outcome::Deferred)
            }
            Ok(Opinion::Unscannable(why)) => {
                self.end_unscannable(inspector, claimed, upload, facts, &why).await
            }
            Err(ExamineError::Store(StoreError::PreconditionFailed)) => {
                self.observe_again(claimed, upload).await
            }
            Err(error) => self.fail(inspector, claimed, upload, facts, chain(&error)).await,
        }
    }

    /// The object was deleted or replaced while it was examined.
    async fn observe_again(&self, claimed: &QueuedInspection, upload: &Upload) -> Result<Outcome> {
        let event = self.observe_object(upload, ConfirmedBy::Scan).await?;
        let applied = self.apply(upload.clone(), &event).await?;
        if !applied.changed {
            let at = self.retry_at(claimed);
            let error = Some("the object was replaced while it was examined".to_owned());
            self.postpone(claimed, InspectionStatus::Queued, Some(at), error).await?;
        }
        Ok(Outcome::Outdated)
    }

    /// Ends an attempt that failed.
    async fn fail(
        &self,
        inspector: &Inspector,
        claimed: &QueuedInspection,
        upload: &Upload,
        facts: &ObjectFacts,
        error: String,
    ) -> Result<Outcome> {
        let error = clean(error);
        if self.now() > claimed.queued_at + inspector.deadline
            && let Some(forced) = inspector.forced(facts, inspector.on_error, ("error", &error))
        {
            tracing::error!(upload = %upload.id, inspector = %inspector.name, error,
                verdict = forced.verdict.name(),
                "no verdict by the deadline; on_error decides");
            self.apply(upload.clone(), &Event::Inspected(forced)).await?;
            return Ok(Outcome::Failed);
        }
        tracing::warn!(upload = %upload.id, inspector = %inspector.name, error,
            attempts = claimed.attempts, "an inspection failed; it is tried again");
        let at = self.retry_at(claimed);
        self.postpone(claimed, InspectionStatus::Queued, Some(at), Some(error)).await?;
        Ok(Outcome::Failed)
    }

    async fn end_unscannable(
        &self,
        inspector: &Inspector,
        claimed: &QueuedInspection,
        upload: &Upload,
        facts: &ObjectFacts,
        why: &str,
    ) -> Result<Outcome> {
        let fallback = inspector.on_unscannable;
        tracing::warn!(upload = %upload.id, inspector = %inspector.name, why, ?fallback,
            "a file can't be inspected; on_unscannable decides");
        if let Some(forced) = inspector.forced(facts, fallback, ("unscannable", why)) {
            self.apply(upload.clone(), &Event::Inspected(forced)).await?;
        } else {
            let why = Some(clean(why.to_owned()));
            self.postpone(claimed, InspectionStatus::Held, None, why).await?;
        }
        Ok(Outcome::Unscannable)
    }

    fn retry_at(&self, claimed: &QueuedInspection) -> Timestamp {
        let earlier = u32::try_from(claimed.attempts.saturating_sub(1)).unwrap_or_default();
        self.now() + TimeDelta::from_std(RETRY.pause(earlier)).unwrap_or_default()
    }

    async fn postpone(
        &self,
        claimed: &QueuedInspection,
        status: InspectionStatus,
        until: Option<Timestamp>,
        error: Option<String>,
    ) -> Result<()> {
        Ok(self.db.inspections().record(claimed, status, until, error).await?)
    }
}

/// The verdict of an inspector about an object.
fn about(
    facts: &ObjectFacts,
    inspector: InspectorName,
    verdict: Verdict,
    annotation: Annotation,
) -> Inspected {
    Inspected {
        inspector,
        etag: facts.etag.clone(),
        version_id: facts.version_id.clone(),
        verdict,
        annotation,
        forced_by: None,
        backfill: false,
    }
}

/// A text of an inspector, prepared for the database: without control characters, and not too long.
pub(super) fn clean(text: String) -> String {
    let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(text)
}

impl From<ExamineError> for AppError {
    fn from(error: ExamineError) -> Self {
        match error {
            ExamineError::Store(error) => error.into(),
            ExamineError::Failed(text) => StoreError::Protocol(text).into(),
        }
    }
}
