//! The shards of a run. A worker works on one shard at a time, and the results of all shards decide
//! the result of the run.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Counters, RunStatus};
use crate::domain::{KeyRange, LocationNumber, PolicyName, RunId};

/// The number of failed shards of a location after which its other shards are skipped.
pub const MAX_FAILED_SHARDS: usize = 3;

named!(
    /// The status of a shard.
    ShardStatus {
        /// Waiting for a worker, or in progress.
        Open = "open",
        /// Done.
        Done = "done",
        /// Done, but absences were ignored, because the bucket may not be this database's.
        Unverified = "doubted",
        /// Ended before an unsafe change, for example one beyond the damage limit.
        Stopped = "stopped",
        /// Ended by an error.
        Failed = "failed",
        /// Ended early because of another shard, or on request.
        Skipped = "skipped",
    }
);
named!(
    /// The stages of a shard, in order. All stages after `compare` are done by the finalizing
    /// shard of a location, which waits for the shards of all locations of its policy.
    Stage {
        /// Compares the objects in its range with the rows.
        Compare = "compare",
        /// Marks uploads missing, and rejects uploads whose bytes were replaced.
        Missing = "missing",
        /// Deletes due objects.
        Delete = "delete",
        /// Aborts abandoned multipart uploads.
        Multiparts = "multiparts",
    }
);
named!(
    /// Why the finalizing shard must process an upload.
    CandidateKind {
        /// Its object seems to be gone.
        Missing = "missing",
        /// Other bytes seem to have replaced its verified object.
        Rejection = "rejection",
        /// In a dry run: a real run would have made its object due for deletion.
        Due = "due",
        /// As `Due`, and the deletion would be damage.
        DueDamage = "due_damage",
        /// Not a candidate: a record that the run rejected the upload. Kept after the run has
        /// ended.
        Rejected = "rejected",
    }
);

impl CandidateKind {
    /// The candidates that take a verified file from its owner.
    pub const HELD: [Self; 2] = [Self::Missing, Self::Rejection];

    /// The candidates that count as damage.
    pub const DAMAGE: [Self; 3] = [Self::Missing, Self::Rejection, Self::DueDamage];
}

/// A shard of a new run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewShard {
    /// The policy.
    pub policy: PolicyName,
    /// The location of the policy.
    pub location: LocationNumber,
    /// The keys to compare, if any.
    pub range: Option<KeyRange>,
    /// Whether it does the stages after `compare` for its location.
    pub finalizes: bool,
}

/// A claimed shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunShard {
    /// The run.
    pub run: RunId,
    /// Its number in the run.
    pub number: i32,
    /// The policy.
    pub policy: PolicyName,
    /// The location of the policy.
    pub location: LocationNumber,
    /// The keys to compare, if any.
    pub range: Option<KeyRange>,
    /// Whether it does the stages after `compare` for its location.
    pub finalizes: bool,
    /// The current stage.
    pub stage: Stage,
    /// The cursor up to which the stage is done.
    pub cursor: Option<String>,
    /// The counters so far.
    pub counters: Counters,
    /// How many findings it has so far.
    pub findings: u64,
    /// Why absences were ignored, if some were.
    pub unverified: Option<String>,
    /// Incremented by each claim. A holder with an older fence can't write.
    pub fence: i64,
}

/// The status of a shard, for the outcome of its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardEnd {
    /// Its number in the run.
    pub number: i32,
    /// The policy.
    pub policy: PolicyName,
    /// The location of the policy.
    pub location: LocationNumber,
    /// The status.
    pub status: ShardStatus,
    /// Why it failed or stopped, or why it ignored absences.
    pub error: Option<String>,
}

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutcome {
    /// The run continues, but the open shards of these locations are skipped.
    Continues(BTreeSet<(PolicyName, LocationNumber)>),
    /// The run has ended with this status and error.
    Ended(RunStatus, Option<String>),
}

/// Decides the outcome of a run from its shards. A location that fails does not affect the others,
/// which may be in other stores.
pub fn run_outcome(shards: &[ShardEnd]) -> RunOutcome {
    let location = |shard: &ShardEnd| (shard.policy.clone(), shard.location);
    let mut failed: BTreeMap<(PolicyName, LocationNumber), usize> = BTreeMap::new();
    let mut given_up = BTreeSet::new();
    for shard in shards {
        let failures = failed.entry(location(shard)).or_default();
        *failures += usize::from(shard.status == ShardStatus::Failed);
        if shard.status == ShardStatus::Stopped || *failures >= MAX_FAILED_SHARDS {
            given_up.insert(location(shard));
        }
    }
    let open = |shard: &&ShardEnd| shard.status == ShardStatus::Open;
    if shards.iter().filter(open).any(|shard| !given_up.contains(&location(shard))) {
        return RunOutcome::Continues(given_up);
    }
    // A failure is more informative than a stop.
    let ends = [
        (ShardStatus::Failed, RunStatus::Failed),
        (ShardStatus::Stopped, RunStatus::Stopped),
        (ShardStatus::Unverified, RunStatus::Stopped),
    ];
    for (shard, run) in ends {
        if let Some(found) = shards.iter().find(|found| found.status == shard) {
            return RunOutcome::Ended(run, found.error.clone());
        }
    }
    RunOutcome::Ended(RunStatus::Succeeded, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(statuses: &[(&str, ShardStatus)]) -> Vec<ShardEnd> {
        let end = |(number, (policy, status)): (i32, &(&str, ShardStatus))| ShardEnd {
            number,
            policy: PolicyName::new(policy.trim_end_matches('2')),
            location: LocationNumber(i32::from(policy.ends_with('2'))),
            status: *status,
            error: Some(status.name().to_owned()),
        };
        (0..).zip(statuses).map(end).collect()
    }

    #[test]
    fn a_run_ends_with_its_last_shard_and_a_failure_outranks_a_stop() {
        use ShardStatus::{Done, Failed, Open, Skipped, Stopped, Unverified};
        let ended = |status, why: Option<&str>| RunOutcome::Ended(status, why.map(str::to_owned));
        let continues = |names: &[&str]| {
            let location = |name: &&str| (PolicyName::new(*name), LocationNumber(0));
            RunOutcome::Continues(names.iter().map(location).collect())
        };
        let table = [
            (vec![("a", Done), ("a", Open)], continues(&[])),
            (vec![("a", Failed), ("a", Failed), ("a", Open)], continues(&[])),
            (vec![("a", Failed); 3], ended(RunStatus::Failed, Some("failed"))),
            (
                vec![("a", Failed), ("a", Failed), ("a", Failed), ("a", Open), ("b", Open)],
                continues(&["a"]),
            ),
            (
                vec![("a", Failed), ("a", Failed), ("a", Failed), ("a", Open), ("a2", Open)],
                continues(&["a"]),
            ),
            (vec![("a", Failed), ("a2", Failed), ("a", Failed), ("a", Open)], continues(&[])),
            (vec![("a", Stopped), ("a2", Open)], continues(&["a"])),
            (vec![("a", Stopped), ("a", Open)], ended(RunStatus::Stopped, Some("stopped"))),
            (vec![("a", Stopped), ("b", Failed)], ended(RunStatus::Failed, Some("failed"))),
            (vec![("a", Unverified), ("a", Done)], ended(RunStatus::Stopped, Some("doubted"))),
            (vec![("a", Done), ("a", Skipped)], ended(RunStatus::Succeeded, None)),
            (vec![], ended(RunStatus::Succeeded, None)),
        ];
        for (statuses, expected) in table {
            assert_eq!(run_outcome(&shards(&statuses)), expected, "{statuses:?}");
        }
    }
}
