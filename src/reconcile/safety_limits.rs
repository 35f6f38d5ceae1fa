//! How much harm a run may do without being told to: one loss is news, thousands are a
//! wrong bucket.

use super::marker::{self, BucketIdentity};
use super::worker::{WorkError, Worker};
use crate::app::AppError;
use crate::domain::run::SuspectKind;

/// A run that would end or delete no more than this is never stopped.
const HARMLESS: u64 = 100;

impl Worker<'_> {
    /// Stops the run where so many losses and deletions are too many.
    pub(super) async fn check_damage(&self, count: u64) -> Result<(), WorkError> {
        if count <= HARMLESS || self.run.request.force {
            return Ok(());
        }
        // Counted only now: hardly any run comes here.
        let (db, name) = (&self.app.db, &self.policy.name);
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

    /// Stops the run early where too many are suspected to be missing.
    pub(super) async fn check_suspects(&self) -> Result<(), WorkError> {
        if self.run.request.force {
            return Ok(());
        }
        let count = self.app.db.missing_candidates().count(self.shard, SuspectKind::Missing).await;
        self.check_damage(count.map_err(AppError::from)?).await
    }

    /// All that the closing shard would end and delete.
    pub(super) async fn check_all_damage(&self) -> Result<(), WorkError> {
        let (db, shard) = (&self.app.db, self.shard);
        let all = async {
            let spent = db.shards().spent_deletions(shard.run).await?;
            let budget = self.settings.max_deletions.saturating_sub(spent);
            let due = db.scan().count_due(&self.policy.name, self.app.now(), budget).await?;
            let dry = db.missing_candidates().count(shard, SuspectKind::Due).await?;
            let missing = db.missing_candidates().count(shard, SuspectKind::Missing).await?;
            Ok::<_, AppError>(missing + (due + dry).min(budget))
        };
        self.check_damage(all.await?).await
    }

    /// Whose bucket it is, asked once for each run and policy by a process.
    pub(super) async fn bucket_identity(&self) -> Result<&BucketIdentity, WorkError> {
        let request = &self.run.request;
        let check =
            || marker::check(self.app, self.policy, self.store, request.force, request.dry_run);
        Ok(self.session.bucket_identity.get_or_try_init(check).await?)
    }

    /// Asks again whose bucket this is: a run takes long enough for a bucket to be taken
    /// away or exchanged under it, and a HEAD in a bucket that is gone shows absence.
    pub(super) async fn check_bucket_identity(&self, what: &str) -> Result<(), WorkError> {
        let still = match self.bucket_identity().await? {
            BucketIdentity::Match => {
                let dry_run = self.run.request.dry_run;
                marker::check(self.app, self.policy, self.store, false, dry_run).await?
            }
            doubtful @ BucketIdentity::Mismatch(_) => doubtful.clone(),
        };
        match still {
            BucketIdentity::Match => Ok(()),
            BucketIdentity::Mismatch(why) => Err(WorkError::Stopped(format!("{what}, but {why}"))),
        }
    }
}
