//! Reconciliation: compares the bucket's listing with the table.
//!
//! [`plan`] chooses what to request, [`merge`] joins the listing and the rows in key order,
//! `domain::reconcile` decides on each pair (`compare`), [`worker`] processes one shard,
//! `finalize` does the damaging part within `safety_limits`, `shard_workers` claims shards, and
//! [`run`] starts and ends runs. To add a finding: add a kind to `domain::run` and record it in
//! [`report`].

mod aborts;
mod batch;
mod compare;
mod finalize;
pub mod marker;
pub mod merge;
mod multiparts;
pub mod plan;
pub mod purge;
pub mod report;
pub mod run;
mod safety_limits;
mod shard_workers;
mod start;
pub mod streams;
pub mod throttle;
pub mod worker;

use std::time::Duration;

use chrono::TimeDelta;

pub use run::{Reconciler, RunHandle, StartError};

/// How runs work.
#[derive(Debug, Clone)]
pub struct ReconcileSettings {
    /// How long a shard is its holder's without a sign of life.
    pub lease: Duration,
    /// How often a shard that changes nothing notes how far it is.
    pub save_every: Duration,
    /// How long expired uploads are watched for late bytes.
    pub late_window: TimeDelta,
    /// Shards of a run at once, in this process.
    pub shards: usize,
    /// HEADs and deletions at once, in each shard.
    pub concurrency: usize,
    /// Requests to the stores a second, of all runs of this process; 0 is no bound.
    pub max_requests_per_second: u32,
    /// Keys a listing page, rows a page.
    pub page_size: usize,
    /// Deletions a run at most.
    pub max_deletions: u64,
}

impl Default for ReconcileSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            save_every: Duration::from_secs(1),
            late_window: TimeDelta::hours(24),
            shards: 4,
            concurrency: 8,
            max_requests_per_second: 0,
            page_size: crate::domain::limits::MAX_PAGE,
            max_deletions: 1000,
        }
    }
}
