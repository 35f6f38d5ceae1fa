//! Reconciliation runs, and what they found.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::run::{Counters, Finding, Run, RunRequest};

/// A reconciliation run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Run)]
pub struct RunView {
    /// Its id.
    pub id: Uuid,
    /// `incremental` or `audit`.
    #[schema(example = "audit")]
    pub mode: &'static str,
    /// `schedule`, `api`, `cli` or `startup`.
    #[schema(example = "api")]
    pub trigger: &'static str,
    /// Whether it only looks.
    pub dry_run: bool,
    /// `running`, `succeeded`, `failed`, `stopped` or `cancelled`.
    #[schema(example = "succeeded")]
    pub status: &'static str,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// What it changed so far.
    pub counters: Counters,
    /// Why it failed or stopped.
    pub error: Option<String>,
}

impl From<Run> for RunView {
    fn from(run: Run) -> Self {
        let Run { id, request, status, counters, error, started_at, finished_at } = run;
        let RunRequest { mode, policy: _, dry_run, force: _, trigger } = request;
        Self {
            id: id.0,
            mode: mode.name(),
            trigger: trigger.name(),
            dry_run,
            status: status.name(),
            started_at,
            finished_at,
            counters,
            error,
        }
    }
}

/// What a run saw.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Finding)]
pub struct FindingView {
    /// `missing`, `orphan`, `foreign`, `overwritten`, `late`, `abandoned_multipart` or
    /// `rejected`.
    #[schema(example = "orphan")]
    pub kind: &'static str,
    /// Under which policy.
    #[schema(example = "tracks")]
    pub policy: String,
    /// The object's key.
    pub key: String,
    /// The upload, where there is one.
    pub upload_id: Option<Uuid>,
    /// The object's size in bytes, where it is known.
    pub size: Option<u64>,
    /// A few words more: the rule that was broken, a multipart upload's id, or `delete` for
    /// the object of an ended upload that the run deletes (a dry run: would delete).
    pub detail: Option<String>,
    /// When it was seen.
    pub found_at: DateTime<Utc>,
}

impl From<Finding> for FindingView {
    fn from(finding: Finding) -> Self {
        let Finding { kind, policy, key, upload, size, detail, found_at } = finding;
        Self {
            kind: kind.name(),
            policy: policy.as_str().to_owned(),
            key,
            upload_id: upload.map(|id| id.0),
            size,
            detail,
            found_at,
        }
    }
}
