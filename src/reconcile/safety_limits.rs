//! How much damage a run may do: one loss is news, thousands are a wrong bucket.

use tokio::sync::OnceCell;

use super::marker::{self, BucketIdentity};
use super::worker::{Target, WorkError};
use crate::app::AppError;
use crate::domain::run::{CandidateKind, RunRequest, RunShard};

/// A run that would mark missing or delete no more objects than this is never stopped.
const HARMLESS: u64 = 100;

/// What a process knows of a run's policy, shared by all shards of the policy.
#[derive(Debug, Default)]
pub(super) struct PolicySession {
    bucket_identity: OnceCell<BucketIdentity>,
    /// How many rows the policy has.
    rows: OnceCell<u64>,
}

/// The limits of one shard's work.
pub(super) struct SafetyLimits<'a> {
    pub(super) target: Target<'a>,
    pub(super) request: &'a RunRequest,
    pub(super) shard: &'a RunShard,
    pub(super) session: &'a PolicySession,
    /// How many objects the run may delete.
    pub(super) max_deletions: u64,
}

impl SafetyLimits<'_> {
    /// Whether the bucket is the right one. Read once for each run and policy by a process.
    pub(super) async fn bucket_identity(&self) -> Result<&BucketIdentity, WorkError> {
        let RunRequest { force, dry_run, .. } = *self.request;
        let check = || marker::check(self.target, force, dry_run);
        Ok(self.session.bucket_identity.get_or_try_init(check).await?)
    }

    /// Stops the run if the bucket is not the right one. The marker is read again: the bucket
    /// may be taken away or replaced during a run, and a HEAD in a bucket that is gone shows
    /// absence.
    pub(super) async fn require_own_bucket(&self, what: &str) -> Result<(), WorkError> {
        let identity = match self.bucket_identity().await? {
            BucketIdentity::Match => {
                marker::check(self.target, false, self.request.dry_run).await?
            }
            mismatch @ BucketIdentity::Mismatch(_) => mismatch.clone(),
        };
        match identity {
            BucketIdentity::Match => Ok(()),
            BucketIdentity::Mismatch(why) => Err(WorkError::Stopped(format!("{what}, but {why}"))),
        }
    }

    /// Stops the run early if too many objects seem to be missing.
    pub(super) async fn check_candidates(&self) -> Result<(), WorkError> {
        if self.request.force {
            return Ok(());
        }
        let candidates = self.target.app.db.missing_candidates();
        let count = candidates.count(self.shard, CandidateKind::Missing).await;
        self.check_damage(count.map_err(AppError::from)?).await
    }

    /// Stops the run if the finalizing shard would mark missing and delete too many objects.
    pub(super) async fn check_total(&self) -> Result<(), WorkError> {
        let (db, shard) = (&self.target.app.db, self.shard);
        let total = async {
            let spent = db.shards().spent_deletions(shard.run).await?;
            let budget = self.max_deletions.saturating_sub(spent);
            let (policy, now) = (&self.target.policy.name, self.target.app.now());
            let due = db.scan().count_due(policy, now, budget).await?;
            let dry = db.missing_candidates().count(shard, CandidateKind::Due).await?;
            let missing = db.missing_candidates().count(shard, CandidateKind::Missing).await?;
            Ok::<_, AppError>(missing + (due + dry).min(budget))
        };
        self.check_damage(total.await?).await
    }

    async fn check_damage(&self, count: u64) -> Result<(), WorkError> {
        if count <= HARMLESS || self.request.force {
            return Ok(());
        }
        // Counted only now, because few runs come this far.
        let (db, name) = (&self.target.app.db, &self.target.policy.name);
        let rows = self.session.rows.get_or_try_init(|| db.scan().count_rows(name)).await;
        let threshold = HARMLESS.max(rows.map_err(AppError::from)? / 100);
        if count <= threshold {
            return Ok(());
        }
        Err(WorkError::Stopped(format!(
            "policy `{name}`: more than {threshold} objects would be marked missing or deleted; \
             `--force` does it"
        )))
    }
}
