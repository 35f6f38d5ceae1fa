//! Reconciliation runs and their findings.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{FindingKindName, RunMode, RunStatusName, RunTrigger};
use crate::domain::run::{Counters, Finding, MoveCounters, Run, RunRequest, StoredFinding};

/// A reconciliation run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Run)]
pub struct RunView {
    /// The id of the run.
    pub id: Uuid,
    /// What the run checks.
    #[schema(value_type = RunMode)]
    pub mode: &'static str,
    /// What started the run.
    #[schema(value_type = RunTrigger)]
    pub trigger: &'static str,
    /// Whether the run changes nothing.
    pub dry_run: bool,
    /// The status.
    #[schema(value_type = RunStatusName)]
    pub status: &'static str,
    /// When the run started.
    pub started_at: DateTime<Utc>,
    /// When the run ended.
    #[schema(required)]
    pub finished_at: Option<DateTime<Utc>>,
    /// What the run changed so far.
    pub counters: Counters,
    /// Why the run failed or stopped.
    #[schema(required)]
    pub error: Option<String>,
}

impl From<Run> for RunView {
    fn from(run: Run) -> Self {
        let Run { id, request, status, counters, error, started_at, finished_at } = run;
        let RunRequest {
            mode,
            policy: _,
            dry_run,
            accept_damage: _,
            adopt_bucket: _,
            adopt: _,
            moving: _,
            trigger,
        } = request;
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

/// A move of a policy's objects.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Move)]
pub struct MoveView {
    /// The id of the move.
    pub id: Uuid,
    /// The policy.
    #[schema(example = "tracks")]
    pub policy: String,
    /// The store that the objects are moved from.
    #[schema(example = "default")]
    pub from: String,
    /// How many objects each process transfers at the same time.
    pub concurrency: u16,
    /// What started the move.
    #[schema(value_type = RunTrigger)]
    pub trigger: &'static str,
    /// Whether the move changes nothing.
    pub dry_run: bool,
    /// The status.
    #[schema(value_type = RunStatusName)]
    pub status: &'static str,
    /// When the move started.
    pub started_at: DateTime<Utc>,
    /// When the move ended.
    #[schema(required)]
    pub finished_at: Option<DateTime<Utc>>,
    /// What was moved so far.
    pub counters: MoveCounters,
    /// Why the move failed or stopped.
    #[schema(required)]
    pub error: Option<String>,
}

impl From<Run> for MoveView {
    fn from(run: Run) -> Self {
        let Run { id, request, status, counters, error, started_at, finished_at } = run;
        let RunRequest {
            mode: _,
            policy,
            dry_run,
            accept_damage: _,
            adopt_bucket: _,
            adopt: _,
            moving,
            trigger,
        } = request;
        let (from, concurrency) =
            moving.map(|moving| (moving.from, moving.concurrency)).unwrap_or_default();
        Self {
            id: id.0,
            policy: policy.map(|policy| policy.as_str().to_owned()).unwrap_or_default(),
            from,
            concurrency,
            trigger: trigger.name(),
            dry_run,
            status: status.name(),
            started_at,
            finished_at,
            counters: counters.moves,
            error,
        }
    }
}

/// A problem that a run found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Finding)]
pub struct FindingView {
    /// The kind.
    #[schema(value_type = FindingKindName)]
    pub kind: &'static str,
    /// The policy.
    #[schema(example = "tracks")]
    pub policy: String,
    /// The key of the object.
    pub key: String,
    /// The upload, if there is one.
    #[schema(required)]
    pub upload_id: Option<Uuid>,
    /// The size of the object in bytes, if it is known.
    #[schema(required)]
    pub size: Option<u64>,
    /// More information, which depends on the kind: the rule that was violated, or the id of a
    /// multipart upload. `delete` means that the run deletes the object of an ended upload, or
    /// would delete it if the run were not a dry run. `same-size` means that a verified object was
    /// written again with the same size, and there is no checksum to compare its bytes. For an
    /// object that was not moved: `absent`, `changed`, or the error.
    #[schema(required)]
    pub detail: Option<String>,
    /// When this run or a later run last saw the problem.
    pub found_at: DateTime<Utc>,
    /// When a run first saw the problem.
    pub first_seen_at: DateTime<Utc>,
    /// The run that first saw the problem.
    pub first_run_id: Uuid,
    /// The run that last saw the problem.
    pub last_run_id: Uuid,
}

impl From<StoredFinding> for FindingView {
    fn from(known: StoredFinding) -> Self {
        let StoredFinding { finding, first_run, first_seen_at, last_run } = known;
        let Finding { kind, policy, key, upload, size, detail, found_at } = finding;
        Self {
            kind: kind.name(),
            policy: policy.as_str().to_owned(),
            key,
            upload_id: upload.map(|id| id.0),
            size,
            detail,
            found_at,
            first_seen_at,
            first_run_id: first_run.0,
            last_run_id: last_run.0,
        }
    }
}
