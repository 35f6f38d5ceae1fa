//! Statistics for administrators, and the gauges of `GET /metrics`.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;

use super::{App, Result};
use crate::db::inspections::Depth;
use crate::db::stats::Counts;
use crate::domain::inspection::InspectionStatus;
use crate::domain::run::{Mode, Run, RunStatus};
use crate::domain::{PolicyName, Status, Timestamp};
use crate::telemetry::metrics as names;

/// How many of a policy's newest uploads are used to compute the times from creation to
/// verification.
const SAMPLE: u64 = 1000;

/// Statistics of the service.
#[derive(Debug)]
pub struct Stats {
    /// When they were read.
    pub now: Timestamp,
    /// Row counts and their age; `None` until the first ones are complete.
    pub counts: Option<(std::sync::Arc<Counts>, Duration)>,
    /// When each policy's oldest pending upload was created.
    pub oldest_pending: BTreeMap<PolicyName, Option<Timestamp>>,
    /// How long each policy's newest uploads took from creation to verification.
    pub times_to_confirm: BTreeMap<PolicyName, Times>,
    /// The newest run of each mode.
    pub last_runs: BTreeMap<Mode, Option<Run>>,
    /// The number of open long polls and event streams of this process.
    pub waiters: usize,
}

/// Percentiles of a sample.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The size of the sample.
    pub sample: usize,
    /// The median.
    pub p50: TimeDelta,
    /// The 90th percentile.
    pub p90: TimeDelta,
    /// The 99th percentile.
    pub p99: TimeDelta,
}

impl Times {
    fn of(mut times: Vec<TimeDelta>) -> Self {
        times.sort_unstable();
        // The smallest value such that at least `percent` of the values are not larger.
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100);
            times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { sample: times.len(), p50: at(50), p90: at(90), p99: at(99) }
    }
}

impl App {
    /// Reads the statistics.
    pub async fn stats(&self) -> Result<Stats> {
        let counted = self.db.stats().counts().await?;
        let mut oldest_pending = BTreeMap::new();
        let mut times_to_confirm = BTreeMap::new();
        for policy in self.policies.keys() {
            oldest_pending.insert(policy.clone(), self.db.stats().oldest_pending(policy).await?);
            let newest = self.db.stats().newest_uploaded(policy, SAMPLE).await?;
            let times =
                newest.into_iter().map(|(created, at)| (at - created).max(TimeDelta::zero()));
            times_to_confirm.insert(policy.clone(), Times::of(times.collect()));
        }
        let mut last_runs = BTreeMap::new();
        for mode in &Mode::RECONCILIATIONS {
            let mut newest: Option<Run> = None;
            for status in RunStatus::ALL {
                let run = self.db.runs().newest(*mode, *status).await?;
                newest = newest.into_iter().chain(run).max_by_key(|run| run.started_at);
            }
            last_runs.insert(*mode, newest);
        }
        Ok(Stats {
            now: self.now(),
            counts: counted.map(|counted| (counted.counts.clone(), counted.age())),
            oldest_pending,
            times_to_confirm,
            last_runs,
            waiters: self.db.uploads().watchers(),
        })
    }

    /// Sets the gauges whose values are read only when metrics are requested.
    pub async fn observe(&self) -> Result<()> {
        names::observe_process();
        metrics::gauge!(names::WAITERS).set(names::as_gauge(self.db.uploads().watchers() as u64));
        for pool in self.db.stats().pools() {
            for (state, count) in [("in_use", pool.in_use), ("idle", pool.idle)] {
                let gauge =
                    metrics::gauge!(names::DB_CONNECTIONS, "pool" => pool.name, "state" => state);
                gauge.set(names::as_gauge(count));
            }
        }
        for policy in self.policies.keys() {
            let oldest = self.db.stats().oldest_pending(policy).await?;
            let age = oldest.map_or(TimeDelta::zero(), |at| self.now() - at);
            metrics::gauge!(names::OLDEST_PENDING, "policy" => policy.as_str().to_owned())
                .set(age.as_seconds_f64().max(0.0));
        }
        for mode in &Mode::RECONCILIATIONS {
            let newest = self.db.runs().newest(*mode, RunStatus::Succeeded).await?;
            if let Some(at) = newest.and_then(|run| run.finished_at) {
                let at = u64::try_from(at.timestamp()).unwrap_or_default();
                metrics::gauge!(names::RECONCILE_LAST_SUCCESS, "mode" => mode.name())
                    .set(names::as_gauge(at));
            }
        }
        self.observe_inspections().await?;
        if let Some(counted) = self.db.stats().counts().await? {
            metrics::gauge!(names::STATS_AGE).set(counted.age().as_secs_f64());
            self.set_count_gauges(&counted.counts);
        }
        Ok(())
    }

    /// Sets the gauges of the inspection queue, also for inspectors that are no longer configured
    /// but for which uploads still wait.
    async fn observe_inspections(&self) -> Result<()> {
        let mut depths = BTreeMap::new();
        for name in self.inspectors.keys() {
            for status in InspectionStatus::ALL {
                depths.insert((name.as_str().to_owned(), status.name()), (0, TimeDelta::zero()));
            }
        }
        for Depth { inspector, status, count, oldest } in self.db.inspections().depths().await? {
            let label = (inspector.as_str().to_owned(), status.name());
            depths.insert(label, (count, self.now() - oldest));
        }
        for ((inspector, state), (count, age)) in depths {
            metrics::gauge!(names::INSPECTION_QUEUE,
                "inspector" => inspector.clone(), "state" => state)
            .set(names::as_gauge(count));
            metrics::gauge!(names::INSPECTION_OLDEST, "inspector" => inspector, "state" => state)
                .set(age.as_seconds_f64().max(0.0));
        }
        Ok(())
    }

    fn set_count_gauges(&self, counts: &Counts) {
        let Counts { uploads, waiting, dead, aborts, orphans } = counts;
        let known = self.policies.keys().map(|policy| policy.as_str().to_owned());
        // A policy that is no longer configured may still have rows.
        let all: std::collections::BTreeSet<String> =
            known.chain(uploads.keys().map(|(policy, _)| policy.clone())).collect();
        for policy in all {
            for status in Status::ALL {
                let key = (policy.clone(), status);
                let count = uploads.get(&key).copied().unwrap_or_default();
                let (policy, status) = (policy.clone(), status.name());
                metrics::gauge!(names::UPLOADS, "policy" => policy, "status" => status)
                    .set(names::as_gauge(count));
            }
        }
        for (state, count) in [("waiting", waiting), ("dead", dead)] {
            metrics::gauge!(names::OUTBOX, "state" => state).set(names::as_gauge(*count));
        }
        metrics::gauge!(names::ABORTS_DUE).set(names::as_gauge(*aborts));
        for (policy, count) in orphans {
            metrics::gauge!(names::ORPHANS, "policy" => policy.as_str().to_owned())
                .set(names::as_gauge(*count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_sample() {
        let times =
            |values: &[i64]| Times::of(values.iter().map(|n| TimeDelta::seconds(*n)).collect());
        let seconds =
            |times: Times| [times.p50, times.p90, times.p99].map(|time| time.num_seconds());
        assert_eq!(times(&[]), Times::default());
        assert_eq!(seconds(times(&[7])), [7, 7, 7]);
        assert_eq!(seconds(times(&(1..=100).rev().collect::<Vec<_>>())), [50, 90, 99]);
    }
}
