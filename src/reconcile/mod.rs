//! Reconciliation: compares the bucket's listing with the table of uploads, and corrects the
//! differences.
//!
//! [`run`] starts runs, and `shard_workers` claims their shards. [`worker`] does the steps of one
//! shard (`compare`, `observe`, `adopt`, `finalize`) within its `safety_limits` and saves its
//! `progress`. In the first step, [`plan`] chooses the requests, [`merge`] joins the listing and
//! the rows in key order, and `domain::reconcile` decides on each pair. `moving` moves objects to
//! another location, and `copies` deletes the old objects.
//!
//! To add a finding: add a kind to `domain::run` and record it in [`report`].

mod aborts;
mod adopt;
mod cancel;
mod compare;
mod copies;
mod finalize;
pub mod merge;
mod moving;
mod multiparts;
mod observe;
pub mod plan;
mod progress;
pub mod purge;
pub mod report;
pub mod run;
mod safety_limits;
mod shard_workers;
mod start;
pub mod streams;
mod summary;
pub mod throttle;
mod unattached;
pub mod worker;

use std::time::Duration;

use chrono::TimeDelta;

pub use crate::domain::damage::DamageLimit;
pub use cancel::CancelError;
pub use run::{Reconciler, RunHandle, StartError};

/// The settings of runs.
#[derive(Debug, Clone)]
pub struct ReconcileSettings {
    /// How long a process holds a shard without renewing its lease.
    pub lease: Duration,
    /// The interval at which a shard's cursor is saved, even if no upload has changed.
    pub save_every: Duration,
    /// How long expired uploads are watched for late bytes.
    pub late_window: TimeDelta,
    /// The largest number of shards of a run that this process works on at the same time.
    pub shards: usize,
    /// The largest number of HEADs and deletions of one shard at the same time.
    pub concurrency: usize,
    /// The largest number of requests per second to the stores, for all runs of this process
    /// together; 0 means no limit.
    pub max_requests_per_second: u32,
    /// The largest number of keys in a page of a listing, and of rows in a page of the table.
    pub page_size: usize,
    /// The largest number of deletions of a run.
    pub max_deletions: u64,
    /// How much damage a run may do.
    pub damage: DamageLimit,
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
            damage: DamageLimit::default(),
        }
    }
}
