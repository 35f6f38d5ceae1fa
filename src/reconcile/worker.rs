//! Works on one shard of a run: the data that its steps share, and the order of the steps.

use super::ReconcileSettings;
use super::compare::compare;
use super::finalize::finalize;
use super::merge::MergeError;
use super::moving::{Transfers, move_range};
use super::observe::observe_keys;
use super::plan::{Listing, Planner, open_window};
use super::progress::ShardProgress;
use super::safety_limits::SafetyLimits;
use super::throttle::Throttle;
use crate::app::{App, AppError};
use crate::domain::marker::{BucketIdentity, Mismatch};
use crate::domain::run::{Mode, ShardStatus, Stage};
use crate::domain::{KeyRange, Location, Policy};
use crate::storage::Store;

/// How many rows are observed and saved in one transaction.
pub(super) const BATCH: usize = 100;

/// Why the work on a shard ended early.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// Continuing would exceed the damage limit, or the bucket is not known to be this database's.
    #[error("{0}")]
    Stopped(String),
    /// Another process works on the shard, or the run has ended. Nothing was written.
    #[error("the shard's lease is lost")]
    LostLease,
    /// Every process that worked on the shard ended before the shard did.
    #[error("{0} processes ended before the shard did")]
    Abandoned(i64),
    /// The database or the store failed.
    #[error(transparent)]
    App(#[from] AppError),
    /// The listing and the rows can't be joined.
    #[error("the listing can't be compared with the table")]
    Merge(#[from] MergeError<AppError>),
}

/// A location of a policy that is reconciled, and its store.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) app: &'a App,
    pub(super) policy: &'a Policy,
    pub(super) location: &'a Location,
    pub(super) store: &'a Store,
}

/// The work on one shard.
pub(super) struct Worker<'a> {
    pub(super) target: Target<'a>,
    pub(super) settings: &'a ReconcileSettings,
    pub(super) throttle: &'a Throttle,
    pub(super) transfers: &'a Transfers,
    pub(super) limits: SafetyLimits<'a>,
    pub(super) progress: ShardProgress<'a>,
}

impl Worker<'_> {
    /// Does all remaining steps, and returns how the shard ended.
    ///
    /// # Errors
    /// If the damage limit is exceeded, the lease is lost, or the store or the database fails.
    pub(super) async fn work(&self) -> Result<ShardStatus, WorkError> {
        // Checked first, because a run that adopts the bucket must write a missing marker even if
        // there is nothing else to do. If two databases use the bucket (a contested marker), the
        // run ends as `stopped`, so that the operator notices it. The shard still records uploads
        // that arrived, because that does no harm.
        let identity = self.limits.bucket_identity().await?;
        if *identity == BucketIdentity::Mismatch(Mismatch::Contested) {
            let mut tally = self.progress.report.tally();
            tally.set_unverified(|| identity.to_string());
        }
        let shard = self.progress.shard;
        if shard.stage == Stage::Compare
            && let Some(range) = &shard.range
        {
            let range = match &shard.cursor {
                Some(key) => range.resumed_after(key),
                None => range.clone(),
            };
            match self.progress.run.request.mode {
                Mode::Audit => {
                    let requested_at = self.target.app.now();
                    compare(self, Listing { range, requested_at, rows: None }).await?;
                }
                Mode::Incremental => self.reconcile_open(range).await?,
                Mode::Move => move_range(self, range).await?,
            }
        }
        if shard.finalizes {
            finalize(self).await?;
        }
        let unverified = self.progress.report.tally().unverified().is_some();
        Ok(if unverified { ShardStatus::Unverified } else { ShardStatus::Done })
    }

    /// Reconciles the open uploads of a range, by a HEAD for each or by listing.
    async fn reconcile_open(&self, range: KeyRange) -> Result<(), WorkError> {
        let Target { app, policy, location, store } = self.target;
        let window = open_window(app, policy, [store], self.settings.late_window);
        let mut planner = Planner::new(app, location, store, range, window);
        let mut heads = Vec::new();
        for part in planner.parts().await? {
            let plan = planner.plan(&part).await?;
            heads.extend(plan.heads);
            if let Some(listing) = plan.list {
                // The HEADs come first: a cursor within the listing means that every key before it
                // is done.
                observe_keys(self, std::mem::take(&mut heads)).await?;
                compare(self, listing).await?;
            }
        }
        observe_keys(self, heads).await
    }
}
