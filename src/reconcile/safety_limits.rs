//! How much damage a run may do. Damage is what a run takes from somebody who did not ask: a
//! verified upload that becomes missing, and the deletion of a once verified object that no owner
//! and no newer upload ended. One loss happens; thousands mean a wrong bucket.

use tokio::sync::OnceCell;

use super::worker::{Target, WorkError};
use crate::app::AppError;
use crate::app::bucket_identity::CheckOptions;
use crate::domain::marker::BucketIdentity;
use crate::domain::run::{CandidateKind, RunRequest, RunShard};

/// The most rows that are counted. SQL has no unsigned numbers.
const MAX_COUNT: u64 = i64::MAX as u64 - 1;

/// How much damage a run may do under one policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DamageLimit {
    /// The highest limit. It wins over `min`.
    pub max: u64,
    /// The lowest limit.
    pub min: u64,
    /// The limit as a share of the policy's verified uploads, from 0 to 1.
    pub ratio: f64,
}

impl Default for DamageLimit {
    fn default() -> Self {
        Self { max: 1000, min: 100, ratio: 0.01 }
    }
}

impl DamageLimit {
    /// The limit if nothing is verified: damage up to this is within the limit of every policy.
    fn lowest(self) -> u64 {
        self.min.min(self.max)
    }

    /// The limit of a policy with so many verified uploads.
    fn of(self, verified: u64) -> u64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count needs no last digit, and is never negative"
        )]
        let share = (self.ratio * verified as f64) as u64;
        self.max.min(self.min.max(share))
    }
}

/// What a process knows of a run's policy, shared by all shards of the policy.
#[derive(Debug, Default)]
pub(super) struct PolicySession {
    bucket_identity: OnceCell<BucketIdentity>,
    /// How many verified uploads the policy has.
    verified: OnceCell<u64>,
}

/// The limits of one shard's work.
pub(super) struct SafetyLimits<'a> {
    pub(super) target: Target<'a>,
    pub(super) request: &'a RunRequest,
    pub(super) shard: &'a RunShard,
    pub(super) session: &'a PolicySession,
    /// How many objects the run may delete.
    pub(super) max_deletions: u64,
    /// How much damage the run may do.
    pub(super) damage: DamageLimit,
}

impl SafetyLimits<'_> {
    /// Whether the bucket is the right one. Read once for each run and policy by a process.
    pub(super) async fn bucket_identity(&self) -> Result<&BucketIdentity, WorkError> {
        let RunRequest { adopt_bucket, dry_run, .. } = *self.request;
        let Target { app, policy, .. } = self.target;
        let check = || app.check_bucket(policy, CheckOptions { adopt: adopt_bucket, dry_run });
        Ok(self.session.bucket_identity.get_or_try_init(check).await?)
    }

    /// Stops the run if the bucket is not the right one. The marker is read again: the bucket
    /// may be taken away or replaced during a run, and a HEAD in a bucket that is gone shows
    /// absence.
    pub(super) async fn require_own_bucket(&self, what: &str) -> Result<(), WorkError> {
        let identity = match self.bucket_identity().await? {
            BucketIdentity::Match => {
                let Target { app, policy, .. } = self.target;
                let options = CheckOptions { adopt: false, dry_run: self.request.dry_run };
                app.check_bucket(policy, options).await?
            }
            doubt => doubt.clone(),
        };
        match identity {
            BucketIdentity::Match => Ok(()),
            doubt => {
                let policy = &self.target.policy.name;
                Err(WorkError::Stopped(format!("policy `{policy}`: {what}, but {doubt}")))
            }
        }
    }

    /// Stops the run early if too many objects seem to be missing.
    pub(super) async fn check_candidates(&self) -> Result<(), WorkError> {
        let candidates = self.target.app.db.missing_candidates();
        let count = candidates.count(self.shard, CandidateKind::Missing).await;
        self.check_damage(count.map_err(AppError::from)?).await
    }

    /// Stops the run if the finalizing shard would do too much damage.
    pub(super) async fn check_total(&self) -> Result<(), WorkError> {
        let (db, shard) = (&self.target.app.db, self.shard);
        let total = async {
            let missing = db.missing_candidates().count(shard, CandidateKind::Missing).await?;
            if self.max_deletions == 0 {
                return Ok::<_, AppError>(missing);
            }
            // The whole due set, although a run deletes only a part of it: otherwise runs would
            // delete all of it in turns. No limit is above `max`, so one more is enough.
            let (policy, now) = (&self.target.policy.name, self.target.app.now());
            let most = self.damage.max.max(self.request.accept_damage).min(MAX_COUNT);
            let due = db.scan().count_due_damage(policy, now, most + 1).await?;
            let dry = db.missing_candidates().count(shard, CandidateKind::DueDamage).await?;
            Ok(missing + due + dry)
        };
        self.check_damage(total.await?).await
    }

    async fn check_damage(&self, count: u64) -> Result<(), WorkError> {
        if count <= self.damage.lowest().max(self.request.accept_damage) {
            return Ok(());
        }
        // Counted only now, because few runs come this far.
        let (db, name) = (&self.target.app.db, &self.target.policy.name);
        let verified = self.session.verified.get_or_try_init(|| db.scan().count_verified(name));
        let limit = self.damage.of(*verified.await.map_err(AppError::from)?);
        let limit = limit.max(self.request.accept_damage);
        if count <= limit {
            return Ok(());
        }
        Err(WorkError::Stopped(format!(
            "policy `{name}`: more than {limit} once verified objects would be marked missing or \
             deleted, and no owner asked for it; `--accept-damage N` allows more"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_a_share_of_the_verified_uploads_between_two_bounds() {
        let limit = DamageLimit::default();
        for (verified, expected) in
            [(0, 100), (10_000, 100), (50_000, 500), (100_000, 1000), (3_000_000, 1000)]
        {
            assert_eq!(limit.of(verified), expected, "{verified}");
        }
        let low = DamageLimit { max: 5, ..limit };
        assert_eq!((low.lowest(), low.of(1_000_000)), (5, 5), "the highest limit wins");
        let none = DamageLimit { max: 0, ..limit };
        assert_eq!(none.of(1_000_000), 0);
    }
}
