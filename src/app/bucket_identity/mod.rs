//! Whether the bucket of a policy's location belongs to this database.
//!
//! An empty, restored or wrong bucket, a wrong, copied or older database, or two environments on
//! one prefix all look as if many objects were lost or had no row. The marker object below each
//! prefix ([`crate::domain::marker`]) shows these cases. Unless the marker belongs to this
//! database, absences are ignored and nothing is deleted. By default, no new uploads are accepted
//! either.
//!
//! [`check`] reads and maintains one marker. `app::transitions` calls it before it records
//! absences, and reconciliation runs call it before they delete. [`instance`] lets an operator
//! resolve a mismatch.

mod check;
pub mod instance;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{App, AppError, Result};
use crate::domain::marker::BucketIdentity;
use crate::domain::{Location, LocationNumber, Policy, PolicyName, Upload};
use crate::storage::Store;
use crate::telemetry::metrics as names;
use check::MarkerCheck;

/// How to check a bucket.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// Write a missing marker again. A marker of another database is never replaced.
    pub adopt: bool,
    /// Write nothing, neither to the bucket nor to the database.
    pub dry_run: bool,
}

/// The results of this process's checks of its buckets, and whether they refuse new uploads.
#[derive(Debug, Default)]
pub struct BucketTrust {
    /// Whether new uploads are refused if their policy's bucket is not known to be this database's.
    pub require_marker: bool,
    last_checks: Mutex<BTreeMap<LocationId, LastCheck>>,
}

/// A policy and one of its locations.
type LocationId = (PolicyName, LocationNumber);

#[derive(Debug, Clone)]
struct LastCheck {
    identity: BucketIdentity,
    checked: Instant,
}

impl BucketTrust {
    /// No bucket was checked yet.
    pub fn new(require_marker: bool) -> Self {
        Self { require_marker, last_checks: Mutex::default() }
    }

    /// The result of the last check; `None` if there was none.
    fn find(&self, policy: &PolicyName, location: LocationNumber) -> Option<LastCheck> {
        self.lock().get(&(policy.clone(), location)).cloned()
    }

    /// Records a result, and logs a change.
    fn set(&self, location: &Location, identity: &BucketIdentity) {
        let policy = &location.policy;
        let last = LastCheck { identity: identity.clone(), checked: Instant::now() };
        let mut checks = self.lock();
        let before = checks.insert((policy.clone(), location.number), last);
        let before = before.map(|last| last.identity);
        let mut of_policy = checks.iter().filter(|((name, _), _)| name == policy);
        let trusted = of_policy.all(|(_, last)| last.identity == BucketIdentity::Match);
        drop(checks);
        metrics::gauge!(names::MARKER_TRUSTED, "policy" => policy.as_str().to_owned())
            .set(if trusted { 1.0 } else { 0.0 });
        if before.as_ref() == Some(identity) {
            return;
        }
        match identity {
            BucketIdentity::Match if before.is_none() => {}
            BucketIdentity::Match => tracing::info!(%policy, store = location.store,
                "the bucket is trusted again"),
            BucketIdentity::Unsettled(_) => tracing::warn!(%policy, store = location.store,
                why = %identity, "nothing is deleted for now"),
            BucketIdentity::Mismatch(_) => tracing::error!(%policy, store = location.store,
                why = %identity,
                "until this is resolved, absent objects are ignored and nothing is deleted"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LocationId, LastCheck>> {
        self.last_checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Checks whether the bucket of a policy's new uploads is this database's, see
    /// [`Self::check_location`].
    ///
    /// # Errors
    /// The errors of [`Self::check_location`].
    pub async fn check_bucket(
        &self,
        policy: &Policy,
        options: CheckOptions,
    ) -> Result<BucketIdentity> {
        let location = self.current_location(policy).await?;
        self.check_location(&location, options).await
    }

    /// Checks whether the bucket of a location is this database's. Writes the marker if this
    /// database never wrote one, and replaces its lap if that is due.
    ///
    /// # Errors
    /// If the location's store is not configured any more, if the store or the database fails, or
    /// if the marker changes at each attempt.
    pub async fn check_location(
        &self,
        location: &Location,
        options: CheckOptions,
    ) -> Result<BucketIdentity> {
        let store = self.store_at(location)?;
        let check = MarkerCheck { app: self, location, store, options };
        // The future is large and the call stack of runs is deep, so it is on the heap.
        let identity = Box::pin(check.run()).await?;
        if !options.dry_run {
            self.buckets.set(location, &identity);
        }
        Ok(identity)
    }

    /// Whether `store` contains the marker that this database wrote at `location`. The location's
    /// store is no longer configured under its old name. If the marker is there, `store` is the
    /// same store with a new name.
    pub(super) async fn has_marker_of(&self, location: &Location, store: &Store) -> Result<bool> {
        let options = CheckOptions { dry_run: true, ..CheckOptions::default() };
        MarkerCheck { app: self, location, store, options }.is_known().await
    }

    /// Checks the bucket of the new uploads of every policy, before the first upload is created. A
    /// mismatch is logged; it does not stop the start.
    ///
    /// # Errors
    /// If a store or the database fails.
    pub async fn check_buckets(&self) -> Result<()> {
        for policy in self.policies.values() {
            self.check_bucket(policy, CheckOptions::default()).await?;
        }
        Ok(())
    }

    /// Checks the buckets again whose last check is older than `max_age`: those of new uploads, and
    /// those of former locations that are not trusted.
    ///
    /// # Errors
    /// The first error of a store or the database. The other buckets are still checked.
    pub async fn refresh_buckets(&self, max_age: Duration) -> Result<()> {
        let mut result = Ok(());
        for policy in self.policies.values() {
            let checked = self.refresh_buckets_of(policy, max_age).await;
            result = result.and(checked);
        }
        result
    }

    async fn refresh_buckets_of(&self, policy: &Policy, max_age: Duration) -> Result<()> {
        let current = self.current_location(policy).await?;
        let mut result = Ok(());
        for location in self.locations.all() {
            let last = self.buckets.find(&location.policy, location.number);
            let is_former = location.number != current.number;
            let is_fine = |last: &LastCheck| {
                last.checked.elapsed() < max_age
                    || (is_former && last.identity == BucketIdentity::Match)
            };
            if location.policy != policy.name
                || last.as_ref().map_or(is_former, is_fine)
                || self.store_at(&location).is_err()
            {
                continue;
            }
            let checked = self.check_location(&location, CheckOptions::default()).await;
            result = result.and(checked.map(drop));
        }
        result
    }

    /// A short reason for each untrusted bucket. The keys are `marker.<policy>`.
    pub fn distrusted_buckets(&self) -> BTreeMap<String, &'static str> {
        let last = self.buckets.lock();
        let problems = last
            .iter()
            .filter_map(|((policy, _), last)| Some((policy, last.identity.problem()?)))
            .map(|(policy, problem)| (format!("marker.{policy}"), problem));
        problems.collect()
    }

    /// Refuses a new upload if its bucket is not known to be this database's. Uses the result of
    /// the last check; sends no request.
    pub(super) fn require_bucket(&self, policy: &Policy, at: LocationNumber) -> Result<()> {
        let last = self.buckets.find(&policy.name, at).filter(|_| self.buckets.require_marker);
        match last {
            Some(last) if !last.identity.accepts_uploads() => {
                Err(AppError::BucketMismatch(policy.name.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Whether the last check found that the bucket of an upload is not known to be this
    /// database's. `false` if this process has not checked it.
    pub(super) fn has_unverified_bucket(&self, upload: &Upload) -> bool {
        self.buckets
            .find(&upload.policy, upload.location)
            .is_some_and(|last| last.identity != BucketIdentity::Match)
    }
}
