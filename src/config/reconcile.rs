//! `[reconcile]`: when and how the objects in the bucket are compared with the rows in the
//! database.

use std::time::Duration;

use croner::parser::{CronParser, Seconds};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::ConfigError;
use super::value::{self, ConfigDuration};
use crate::domain::limits::MAX_PAGE;

/// The largest number of concurrent calls. The store would throttle more calls.
const MAX_CONCURRENCY: usize = 1000;

/// The shortest retention of ended uploads. A signed URL is valid for up to a week, and its bytes
/// can arrive later.
const MIN_ENDED_RETENTION: Duration = Duration::from_hours(8 * 24);

/// The largest damage limit. A larger limit would have no effect in practice.
const MAX_DAMAGE: u64 = 1_000_000_000;

/// `[reconcile]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReconcileConfig {
    /// When incremental runs start.
    pub schedule: Schedule,
    /// When audits start.
    pub audit_schedule: Schedule,
    /// Whether an incremental run starts with the service.
    #[serde(deserialize_with = "value::flag")]
    pub run_at_start: bool,
    /// How long expired uploads are still checked for late bytes.
    pub late_window: ConfigDuration,
    /// The time without a renewal after which another process takes over a shard of a run.
    pub lease: ConfigDuration,
    /// The largest number of deletions of one run.
    #[serde(deserialize_with = "value::number")]
    pub max_deletions: u64,
    /// The highest damage limit of a run, however many uploads are verified.
    #[serde(deserialize_with = "value::number")]
    pub damage_max: u64,
    /// The lowest damage limit of a run, unless `damage_max` is even lower.
    #[serde(deserialize_with = "value::number")]
    pub damage_min: u64,
    /// The share of the verified uploads that a run may damage. The limit is at least `damage_min`
    /// and at most `damage_max`.
    #[serde(deserialize_with = "value::fraction")]
    pub damage_ratio: f64,
    /// The largest number of concurrent calls to the store in each run.
    #[serde(deserialize_with = "value::number")]
    pub concurrency: usize,
    /// The largest number of requests per second of all runs in this process; 0 means no limit.
    #[serde(deserialize_with = "value::number")]
    pub max_requests_per_second: u32,
    /// The number of keys in one page of a listing.
    #[serde(deserialize_with = "value::number")]
    pub page_size: usize,
    /// How long findings are kept.
    pub findings_retention: ConfigDuration,
    /// How long ended uploads without an object are kept; `0s` keeps them for ever.
    pub ended_retention: ConfigDuration,
}

impl Default for ReconcileConfig {
    fn default() -> Self {
        Self {
            schedule: Schedule::Cron("0 * * * * *".to_owned()),
            audit_schedule: Schedule::Cron("0 0 3 * * *".to_owned()),
            run_at_start: true,
            late_window: ConfigDuration::from_hours(24),
            lease: ConfigDuration::from_secs(30),
            max_deletions: 1000,
            damage_max: 1000,
            damage_min: 100,
            damage_ratio: 0.01,
            concurrency: 8,
            max_requests_per_second: 0,
            page_size: MAX_PAGE,
            findings_retention: ConfigDuration::from_hours(30 * 24),
            ended_retention: ConfigDuration::from_hours(90 * 24),
        }
    }
}

impl ReconcileConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fail = |key: &str, problem| Err(ConfigError::new(format!("reconcile.{key}"), problem));
        if self.lease.get().as_secs() == 0 {
            return fail("lease", format!("must be at least \"1s\", not \"{}\"", self.lease));
        }
        let ended = self.ended_retention.get();
        if !ended.is_zero() && ended < MIN_ENDED_RETENTION {
            let given = self.ended_retention;
            return fail(
                "ended_retention",
                format!("must be \"0s\" or at least \"8d\", not \"{given}\""),
            );
        }
        for (key, number) in [("damage_max", self.damage_max), ("damage_min", self.damage_min)] {
            if number > MAX_DAMAGE {
                return fail(key, format!("must be from 0 to {MAX_DAMAGE}, not {number}"));
            }
        }
        if !(0.0..=1.0).contains(&self.damage_ratio) {
            let given = self.damage_ratio;
            return fail("damage_ratio", format!("must be from 0 to 1, not {given}"));
        }
        for (key, number, most) in [
            ("concurrency", self.concurrency, MAX_CONCURRENCY),
            ("page_size", self.page_size, MAX_PAGE),
        ] {
            if !(1..=most).contains(&number) {
                return fail(key, format!("must be from 1 to {most}, not {number}"));
            }
        }
        Ok(())
    }
}

/// The schedule of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Not scheduled.
    Off,
    /// A cron expression with seconds, in UTC.
    Cron(String),
}

impl Schedule {
    /// The cron expression; `None` if it is off.
    pub fn cron(&self) -> Option<&str> {
        match self {
            Self::Off => None,
            Self::Cron(expression) => Some(expression),
        }
    }

    /// Parses a schedule by the rules of the scheduler that runs it.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "off" {
            return Some(Self::Off);
        }
        cron_parser().parse(text).ok().map(|_| Self::Cron(text.to_owned()))
    }
}

/// The parser of cron expressions, with the rules of the scheduler that runs them.
pub fn cron_parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build()
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.cron().unwrap_or("off"))
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a cron expression with seconds such as \"0 * * * * *\", or \"off\"";
        value::parsed(deserializer, expected, Self::parse)
    }
}
