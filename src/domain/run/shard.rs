//! A run's shards: what one worker does at a time, and what all of them together make of
//! the run.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Counters, RunStatus};
use crate::domain::{KeyRange, PolicyName, RunId};

/// How many shards of a policy may fail before the others are not tried any more.
pub const MAX_FAILED_SHARDS: usize = 3;

named!(
    /// Where a shard stands.
    ShardStatus {
        /// To be worked on, or at work.
        Open = "open",
        /// Done.
        Done = "done",
        /// Done, but for an absence that was not believed.
        Doubted = "doubted",
        /// Ended by the mass-damage stop.
        Stopped = "stopped",
        /// Ended by an error.
        Failed = "failed",
        /// Not worked on any more, because of another shard or on request.
        Skipped = "skipped",
    }
);
named!(
    /// What a shard does, in this order. All after `compare` is for the closing shard of a
    /// policy, which waits for the others.
    Stage {
        /// Compares its range.
        Compare = "compare",
        /// Ends what is missing.
        Missing = "missing",
        /// Deletes what is due.
        Delete = "delete",
        /// Aborts multipart uploads that nobody will finish.
        Multiparts = "multiparts",
    }
);
named!(
    /// Why an upload is kept in mind until the closing shard.
    SuspectKind {
        /// Its object seems to be gone.
        Missing = "missing",
        /// In a dry run: a real one would have made its object due for deletion.
        Due = "due",
    }
);

/// A shard that a run is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewShard {
    /// Whose keys.
    pub policy: PolicyName,
    /// Which keys to compare, where any.
    pub range: Option<KeyRange>,
    /// Whether it ends the policy's part.
    pub closing: bool,
}

/// A shard as its holder claimed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunShard {
    /// Of which run.
    pub run: RunId,
    /// Its number in the run.
    pub number: i32,
    /// Whose keys.
    pub policy: PolicyName,
    /// Which keys to compare, where any.
    pub range: Option<KeyRange>,
    /// Whether it ends the policy's part.
    pub closing: bool,
    /// What is being done.
    pub stage: Stage,
    /// Up to where the stage is done.
    pub cursor: Option<String>,
    /// What it changed so far.
    pub counters: Counters,
    /// How many findings it has so far.
    pub findings: u64,
    /// An absence that was not believed.
    pub doubt: Option<String>,
    /// Raised by each claim; who has an older one can't write.
    pub fence: i64,
}

/// How a shard ended, or that it did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardEnd {
    /// Its number in the run.
    pub number: i32,
    /// Whose keys.
    pub policy: PolicyName,
    /// Where it stands.
    pub status: ShardStatus,
    /// Why it failed, stopped or doubted.
    pub error: Option<String>,
}

/// What a run's shards make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, without the open shards of these policies.
    GoesOn(BTreeSet<PolicyName>),
    /// It has ended like this.
    Ended(RunStatus, Option<String>),
}

/// Judges a run by its shards. One policy's end leaves the others their turn, since its
/// store may be another one.
pub fn verdict(shards: &[ShardEnd]) -> Verdict {
    let mut failed: BTreeMap<&PolicyName, usize> = BTreeMap::new();
    let mut given_up = BTreeSet::new();
    for shard in shards {
        let failures = failed.entry(&shard.policy).or_default();
        *failures += usize::from(shard.status == ShardStatus::Failed);
        if shard.status == ShardStatus::Stopped || *failures >= MAX_FAILED_SHARDS {
            given_up.insert(shard.policy.clone());
        }
    }
    let open = |shard: &&ShardEnd| shard.status == ShardStatus::Open;
    if shards.iter().filter(open).any(|shard| !given_up.contains(&shard.policy)) {
        return Verdict::GoesOn(given_up);
    }
    // An error says more than a stop.
    let ends = [
        (ShardStatus::Failed, RunStatus::Failed),
        (ShardStatus::Stopped, RunStatus::Stopped),
        (ShardStatus::Doubted, RunStatus::Stopped),
    ];
    for (shard, run) in ends {
        if let Some(found) = shards.iter().find(|found| found.status == shard) {
            return Verdict::Ended(run, found.error.clone());
        }
    }
    Verdict::Ended(RunStatus::Succeeded, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(statuses: &[(&str, ShardStatus)]) -> Vec<ShardEnd> {
        let end = |(number, (policy, status)): (i32, &(&str, ShardStatus))| ShardEnd {
            number,
            policy: PolicyName::new(*policy),
            status: *status,
            error: Some(status.name().to_owned()),
        };
        (0..).zip(statuses).map(end).collect()
    }

    #[test]
    fn a_run_ends_with_its_last_shard_and_an_error_says_more_than_a_stop() {
        use ShardStatus::{Done, Doubted, Failed, Open, Skipped, Stopped};
        let ended = |status, why: Option<&str>| Verdict::Ended(status, why.map(str::to_owned));
        let goes_on = |names: &[&str]| {
            Verdict::GoesOn(names.iter().map(|name| PolicyName::new(*name)).collect())
        };
        let table = [
            (vec![("a", Done), ("a", Open)], goes_on(&[])),
            (vec![("a", Failed), ("a", Failed), ("a", Open)], goes_on(&[])),
            (vec![("a", Failed); 3], ended(RunStatus::Failed, Some("failed"))),
            (
                vec![("a", Failed), ("a", Failed), ("a", Failed), ("a", Open), ("b", Open)],
                goes_on(&["a"]),
            ),
            (vec![("a", Stopped), ("a", Open)], ended(RunStatus::Stopped, Some("stopped"))),
            (vec![("a", Stopped), ("b", Failed)], ended(RunStatus::Failed, Some("failed"))),
            (vec![("a", Doubted), ("a", Done)], ended(RunStatus::Stopped, Some("doubted"))),
            (vec![("a", Done), ("a", Skipped)], ended(RunStatus::Succeeded, None)),
            (vec![], ended(RunStatus::Succeeded, None)),
        ];
        for (statuses, expected) in table {
            assert_eq!(verdict(&shards(&statuses)), expected, "{statuses:?}");
        }
    }
}
