//! A reconciliation run: its request, its counters and its findings.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::ids::{Owner, RunId, UploadId};
use super::policy::PolicyName;

pub use shard::{
    CandidateKind, MAX_FAILED_SHARDS, NewShard, RunOutcome, RunShard, ShardEnd, ShardStatus, Stage,
    run_outcome,
};

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in the API and in the database.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(name: &str) -> Result<Self, ()> {
                Self::ALL.iter().copied().find(|value| value.name() == name).ok_or(())
            }
        }
    };
}

// Declared after the macro that it uses.
mod shard;

named!(
    /// The scope of a run.
    Mode {
        /// Only the open uploads.
        Incremental = "incremental",
        /// The whole bucket and the whole table.
        Audit = "audit",
        /// The verified objects of a policy's former locations: they are moved to the current one.
        Move = "move",
    }
);

impl Mode {
    /// The modes that compare bucket and table.
    pub const RECONCILIATIONS: [Self; 2] = [Self::Incremental, Self::Audit];
}

named!(
    /// What started a run.
    Trigger {
        /// The scheduler.
        Schedule = "schedule",
        /// The admin route.
        Api = "api",
        /// The command line.
        Cli = "cli",
        /// The service's start.
        Startup = "startup",
    }
);
named!(
    /// The status of a run.
    RunStatus {
        /// In progress, or waiting for a process to continue it.
        Running = "running",
        /// Done.
        Succeeded = "succeeded",
        /// Ended by an error.
        Failed = "failed",
        /// Ended by a safety limit.
        Stopped = "stopped",
        /// Ended on request.
        Cancelled = "cancelled",
    }
);
named!(
    /// What a finding is about.
    FindingKind {
        /// A verified object is gone.
        Missing = "missing",
        /// An object with a valid key and no row.
        Orphan = "orphan",
        /// An object whose upload is at another location, or belongs to another policy.
        Stray = "stray",
        /// An object whose key does not parse.
        Foreign = "foreign",
        /// A verified object has other bytes.
        Overwritten = "overwritten",
        /// Bytes arrived after the deadline.
        Late = "late",
        /// An abandoned multipart upload.
        AbandonedMultipart = "abandoned_multipart",
        /// A verified object that a move could not move.
        NotMoved = "not_moved",
        /// Bytes that break a rule. With the detail `delete`: the object of an upload in a final
        /// state, which the run deletes.
        Rejected = "rejected",
    }
);

macro_rules! counters {
    ($(#[$doc:meta])* $struct:ident { $($(#[$fdoc:meta])* $name:ident,)+ $(; $part:ident: $type:ty)? }) => {
        $(#[$doc])*
        #[derive(
            Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema,
        )]
        #[serde(default)]
        pub struct $struct {
            $($(#[$fdoc])* pub $name: u64,)+
            $(
                /// Counts that only some runs have.
                #[serde(skip_serializing_if = "is_default")]
                #[schema(ignore)]
                pub $part: $type,
            )?
        }

        impl $struct {
            /// The counts by name, in the order of the API.
            pub fn named(&self) -> [(&'static str, u64); [$(stringify!($name)),+].len()] {
                [$((stringify!($name), self.$name)),+]
            }

            /// Adds other counters.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
                $(self.$part.add(&other.$part);)?
            }
        }
    };
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

counters!(
    /// What a move did.
    MoveCounters {
        /// Objects that were moved.
        moved,
        /// The bytes of these objects.
        bytes,
        /// Copies whose checksum was compared with that of the original.
        compared,
        /// Copies or originals with other bytes than expected. They were not moved.
        differences,
        /// Uploads that were not moved, because they can still change. They keep their location.
        open,
        /// Objects that were not moved, each with a finding. The next move tries again.
        failed,
    }
);

counters!(
    /// The changes that a run made. `listed`, `orphans`, `strays`, `foreign` and the counts of
    /// requests count what it saw.
    Counters {
        /// Objects that listings showed.
        listed,
        /// LIST requests.
        list_requests,
        /// HEAD requests.
        head_requests,
        /// Uploads that became `uploaded`.
        confirmed,
        /// Uploads that became `rejected`.
        rejected,
        /// Uploads that became `expired`.
        expired,
        /// Uploads that became `missing`.
        missing,
        /// Objects without a row.
        orphans,
        /// Objects without a row that became uploads.
        adopted,
        /// Objects whose upload is at another location, or belongs to another policy.
        strays,
        /// Objects whose key does not parse.
        foreign,
        /// Uploads that were rejected because their bytes changed.
        overwritten,
        /// Uploads that became `uploaded` after they had expired.
        late,
        /// Multipart uploads that were aborted.
        aborted_multipart,
        /// Objects that were deleted.
        deleted,
        /// Rows or objects that could not be processed; the next run tries them again.
        errors,
        ; moves: MoveCounters
    }
);

impl Counters {
    /// The number of uploads whose status this run changed or that it adopted, and of objects that
    /// it deleted.
    pub fn transitions(&self) -> u64 {
        self.confirmed + self.rejected + self.expired + self.missing + self.adopted + self.deleted
    }
}

/// A request for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRequest {
    /// The scope.
    pub mode: Mode,
    /// One policy, or all of them.
    pub policy: Option<PolicyName>,
    /// Whether the run only reports, and changes nothing.
    pub dry_run: bool,
    /// How much damage the run may do, if that is more than the configured limit.
    pub accept_damage: u64,
    /// Whether a missing marker is written again.
    pub adopt_bucket: bool,
    /// The owner of the uploads that an audit creates for objects without a row; `None` creates
    /// none.
    pub adopt: Option<Owner>,
    /// What to move, for [`Mode::Move`].
    pub moving: Option<Moving>,
    /// What started it.
    pub trigger: Trigger,
}

/// The largest number of objects that a process may transfer at the same time in one move.
pub const MAX_TRANSFERS: u16 = 256;

/// The objects that a run moves, and how fast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    /// The name of the store of the former locations.
    pub from: String,
    /// The largest number of objects that a process transfers at the same time.
    pub concurrency: u16,
}

impl RunRequest {
    /// A run over all policies, within the configured limits.
    pub fn of(mode: Mode, trigger: Trigger) -> Self {
        let (policy, dry_run) = (None, false);
        Self {
            mode,
            policy,
            dry_run,
            accept_damage: 0,
            adopt_bucket: false,
            adopt: None,
            moving: None,
            trigger,
        }
    }

    /// A move of a policy's objects.
    pub fn of_move(policy: PolicyName, moving: Moving, dry_run: bool, trigger: Trigger) -> Self {
        let request = Self::of(Mode::Move, trigger);
        Self { policy: Some(policy), dry_run, moving: Some(moving), ..request }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The request.
    pub request: RunRequest,
    /// The status.
    pub status: RunStatus,
    /// The counters so far.
    pub counters: Counters,
    /// Why it failed or stopped.
    pub error: Option<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// The progress of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The run, with its counters so far.
    pub run: Run,
    /// How many findings it has so far.
    pub findings: u64,
    /// How many shards it has.
    pub shards: u64,
    /// How many of them are done.
    pub shards_done: u64,
}

/// A finding of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The kind.
    pub kind: FindingKind,
    /// The policy.
    pub policy: PolicyName,
    /// The object's key.
    pub key: String,
    /// The upload, if there is one.
    pub upload: Option<UploadId>,
    /// The object's size in bytes, if known.
    pub size: Option<u64>,
    /// More detail.
    pub detail: Option<String>,
    /// When it was seen.
    pub found_at: Timestamp,
}

/// A stored finding: when it was last seen, and by which runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFinding {
    /// The finding as it was last seen.
    pub finding: Finding,
    /// The run that saw it first.
    pub first_run: RunId,
    /// When that run saw it.
    pub first_seen_at: Timestamp,
    /// The run that saw it last.
    pub last_run: RunId,
}
