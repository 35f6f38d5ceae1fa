//! Limits the damage of a run (see `domain::damage`). The limit applies to each owner first: if the
//! uploads of one owner exceed it, their changes are withheld, and the other owners' uploads are
//! changed. Then it applies to the total of the other owners. If the total exceeds the limit, the
//! run does no damage at all.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::OnceCell;

use super::worker::{Target, WorkError};
use crate::app::AppError;
use crate::app::bucket_identity::CheckOptions;
use crate::db::reconcile::damage::DamageByOwner;
use crate::domain::Owner;
use crate::domain::damage::DamageLimit;
use crate::domain::marker::BucketIdentity;
use crate::domain::run::{CandidateKind, RunRequest, RunShard};
use crate::telemetry::metrics as names;

/// The largest number of rows that are counted. SQL has no unsigned numbers.
const MAX_COUNT: u64 = i64::MAX as u64 - 1;

/// The largest number of owners that are withheld one by one. If more owners are above the limit,
/// everything is withheld.
const MAX_WITHHELD: usize = 1000;

/// The largest number of owners that the run's error names.
const MAX_NAMED: usize = 5;

/// A run is stopped early only above this multiple of the limit. Before all candidates are known,
/// the damage cannot be divided among owners correctly.
const EARLY_FACTOR: u64 = 10;

/// The state of a run's location in this process, shared by all shards of the location.
#[derive(Debug, Default)]
pub(super) struct LocationSession {
    bucket_identity: OnceCell<BucketIdentity>,
    /// How many verified uploads the policy has.
    verified: OnceCell<u64>,
    /// How many candidates this process added.
    candidates: AtomicU64,
    /// The number of candidates at which the damage is counted next.
    check_at: AtomicU64,
}

/// Owners whose damage is withheld.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    pub(super) owners: Vec<Owner>,
    /// Why the run ends as stopped.
    pub(super) why: Option<String>,
    /// The number of uploads whose changes are withheld.
    count: u64,
}

/// The limits of one shard's work.
pub(super) struct SafetyLimits<'a> {
    pub(super) target: Target<'a>,
    pub(super) request: &'a RunRequest,
    pub(super) shard: &'a RunShard,
    pub(super) session: &'a LocationSession,
    /// How many objects the run may delete.
    pub(super) max_deletions: u64,
    /// How much damage the run may do.
    pub(super) damage: DamageLimit,
}

impl SafetyLimits<'_> {
    /// Whether the bucket belongs to this database. Each process reads it once for each run and
    /// location.
    pub(super) async fn bucket_identity(&self) -> Result<&BucketIdentity, WorkError> {
        let RunRequest { adopt_bucket, dry_run, .. } = *self.request;
        let Target { app, location, .. } = self.target;
        let check = || app.check_location(location, CheckOptions { adopt: adopt_bucket, dry_run });
        Ok(self.session.bucket_identity.get_or_try_init(check).await?)
    }

    /// Stops the run if the bucket is not known to be this database's. The marker is read again:
    /// the bucket may be removed or replaced during a run, and a HEAD in a removed bucket shows an
    /// absence.
    pub(super) async fn require_own_bucket(&self, what: &str) -> Result<(), WorkError> {
        let identity = match self.bucket_identity().await? {
            BucketIdentity::Match => {
                let Target { app, location, .. } = self.target;
                let options = CheckOptions { adopt: false, dry_run: self.request.dry_run };
                app.check_location(location, options).await?
            }
            unverified => unverified.clone(),
        };
        match identity {
            BucketIdentity::Match => Ok(()),
            unverified => {
                let policy = &self.target.policy.name;
                Err(WorkError::Stopped(format!("policy `{policy}`: {what}, but {unverified}")))
            }
        }
    }

    /// Stops the run early if far too many uploads would be lost. `added` is the number of new
    /// candidates of this shard. The damage is counted each time the number of candidates has
    /// doubled.
    pub(super) async fn check_candidates(&self, added: u64) -> Result<(), WorkError> {
        let session = self.session;
        let count = session.candidates.fetch_add(added, Ordering::Relaxed) + added;
        let first = self.lowest().saturating_mul(EARLY_FACTOR);
        if count <= session.check_at.load(Ordering::Relaxed).max(first) {
            return Ok(());
        }
        session.check_at.store(count.saturating_mul(2), Ordering::Relaxed);
        self.withheld_of(false).await.map(drop)
    }

    /// The owners whose changes the finalizing shard must withhold. Stops the run if the remaining
    /// damage is above the limit.
    pub(super) async fn withheld(&self) -> Result<Withheld, WorkError> {
        let deletions = self.max_deletions > 0;
        if self.most_damage(deletions).await? <= self.lowest() {
            return Ok(Withheld::default());
        }
        let withheld = self.withheld_of(deletions).await?;
        self.count_withheld(withheld.count);
        Ok(withheld)
    }

    /// An upper bound of the run's damage. No limit is above `max`, so it is enough to count up to
    /// `max + 1`.
    async fn most_damage(&self, deletions: bool) -> Result<u64, AppError> {
        let (db, shard) = (&self.target.app.db, self.shard);
        let candidates = db.missing_candidates();
        if !deletions {
            return Ok(candidates.count(shard, &CandidateKind::HELD).await?);
        }
        // All due deletions are counted, although one run may do only a part of them. Otherwise
        // several runs together would exceed the limit.
        let (policy, now) = (&self.target.policy.name, self.target.app.now());
        let most = self.damage.max.max(self.request.accept_damage).min(MAX_COUNT);
        let due = db.scan().count_due_damage(policy, now, most + 1).await?;
        Ok(due + candidates.count(shard, &CandidateKind::DAMAGE).await?)
    }

    /// The limit if no upload is verified.
    fn lowest(&self) -> u64 {
        self.damage.lowest().max(self.request.accept_damage)
    }

    /// Counts the damage by owner. Only few runs need this.
    async fn withheld_of(&self, deletions: bool) -> Result<Withheld, WorkError> {
        let (db, name) = (&self.target.app.db, &self.target.policy.name);
        let verified = self.session.verified.get_or_try_init(|| db.scan().count_verified(name));
        let limit = self.damage.of(*verified.await.map_err(AppError::from)?);
        let limit = limit.max(self.request.accept_damage);
        let due_at = deletions.then(|| self.target.app.now());
        let most = MAX_WITHHELD as u64 + 1;
        let counted = db.damage().by_owner(self.shard, due_at, limit, most).await;
        let DamageByOwner { total, over } = counted.map_err(AppError::from)?;
        let withheld: u64 = over.iter().map(|(_, count)| count).sum();
        if total - withheld.min(total) > limit || over.len() > MAX_WITHHELD {
            self.count_withheld(total);
            return Err(WorkError::Stopped(format!(
                "policy `{name}`: more than {limit} verified uploads would become missing or \
                 rejected, or their objects would be deleted, and no owner requested it. If this \
                 is expected, `--accept-damage N` allows it"
            )));
        }
        if over.is_empty() {
            return Ok(Withheld::default());
        }
        let why = withheld_text(name.as_str(), limit, &over);
        let owners = over.into_iter().map(|(owner, _)| owner).collect();
        Ok(Withheld { owners, why: Some(why), count: withheld })
    }

    fn count_withheld(&self, count: u64) {
        let policy = self.target.policy.name.as_str().to_owned();
        metrics::counter!(names::DAMAGE_WITHHELD, "policy" => policy, "source" => "scan")
            .increment(count);
    }
}

fn withheld_text(policy: &str, limit: u64, over: &[(Owner, u64)]) -> String {
    let named = over.iter().take(MAX_NAMED);
    let mut named: Vec<_> =
        named.map(|(owner, count)| format!("`{}` ({count})", owner.as_str())).collect();
    if over.len() > MAX_NAMED {
        named.push(format!("and {} more", over.len() - MAX_NAMED));
    }
    format!(
        "policy `{policy}`: more than {limit} verified uploads of one owner would become missing \
         or rejected, or their objects would be deleted, and the owner did not request it: {}. The \
         uploads of these owners were not changed; all other changes were made. If this is \
         expected, `--accept-damage N` allows it",
        named.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_the_most_affected_owners() {
        let over: Vec<_> = (0..7).map(|n| (Owner::named(format!("o{n}")), 200 - n)).collect();
        let text = withheld_text("tracks", 100, &over);
        assert!(text.contains("more than 100 "), "{text}");
        assert!(text.contains("`o0` (200)") && text.contains("`o4` (196), and 2 more."), "{text}");
    }
}
