//! `GET /api/admin/stats`

use std::collections::BTreeMap;

use actix_web::web::Data;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::stats::{Stats, Times};
use crate::http::HttpState;
use crate::http::extract::{Caller, Json};
use crate::http::problem::ApiError;
use crate::http::views::RunView;

/// Statistics.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stats)]
pub struct StatsView {
    /// When the rows were counted. Larger tables are counted less often, so that counting takes at
    /// most one percent of the time. Null until the first count has finished.
    #[schema(required)]
    pub counted_at: Option<DateTime<Utc>>,
    /// Uploads by policy and status. Counts of zero are left out.
    #[schema(example = json!({"tracks": {"pending": 3, "uploaded": 1200}}))]
    pub uploads: BTreeMap<String, BTreeMap<String, u64>>,
    /// The oldest pending upload of each policy that has one.
    pub oldest_pending: BTreeMap<String, OldestView>,
    /// How long the newest verified uploads of each policy took from creation to verification.
    pub time_to_confirm: BTreeMap<String, TimesView>,
    /// The newest run of each mode that has one.
    pub last_runs: BTreeMap<String, RunView>,
    /// Webhook deliveries.
    pub webhooks: OutboxView,
    /// The number of multipart uploads in the stores that must still be aborted.
    pub multipart_aborts_due: u64,
    /// The number of long polls and event streams in this process.
    pub waiters: u64,
}

/// The oldest pending upload.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OldestPending)]
pub struct OldestView {
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// Its age in seconds.
    pub age_seconds: i64,
}

/// Percentiles in seconds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TimeToConfirm)]
pub struct TimesView {
    /// The number of uploads in the sample, at most 1000.
    pub sample: usize,
    /// 50% of the uploads took at most this long.
    pub p50_seconds: f64,
    /// 90% of the uploads took at most this long.
    pub p90_seconds: f64,
    /// 99% of the uploads took at most this long.
    pub p99_seconds: f64,
}

/// The numbers of webhook deliveries. Each is counted up to 100,000.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Outbox)]
pub struct OutboxView {
    /// Deliveries that are due or scheduled.
    pub waiting: u64,
    /// Deliveries that failed and are not attempted any more.
    pub dead: u64,
}

impl From<Stats> for StatsView {
    fn from(stats: Stats) -> Self {
        let Stats { now, counts, oldest_pending, times_to_confirm, last_runs, waiters } = stats;
        let age = counts.as_ref().and_then(|(_, age)| TimeDelta::from_std(*age).ok());
        let mut uploads: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        let (mut webhooks, mut aborts) = (OutboxView { waiting: 0, dead: 0 }, 0);
        if let Some((counts, _)) = counts {
            for ((policy, status), count) in &counts.uploads {
                let of_policy = uploads.entry(policy.clone()).or_default();
                of_policy.insert(status.name().to_owned(), *count);
            }
            webhooks = OutboxView { waiting: counts.waiting, dead: counts.dead };
            aborts = counts.aborts;
        }
        let oldest = oldest_pending.into_iter().filter_map(|(policy, at)| {
            let created_at = at?;
            let age_seconds = (now - created_at).num_seconds().max(0);
            Some((policy.to_string(), OldestView { created_at, age_seconds }))
        });
        let times = times_to_confirm.into_iter().map(|(policy, times)| {
            let Times { sample, p50, p90, p99 } = times;
            let [p50_seconds, p90_seconds, p99_seconds] =
                [p50, p90, p99].map(TimeDelta::as_seconds_f64);
            (policy.to_string(), TimesView { sample, p50_seconds, p90_seconds, p99_seconds })
        });
        let runs = last_runs
            .into_iter()
            .filter_map(|(mode, run)| Some((mode.name().to_owned(), RunView::from(run?))));
        Self {
            counted_at: age.map(|age| now - age),
            uploads,
            oldest_pending: oldest.collect(),
            time_to_confirm: times.collect(),
            last_runs: runs.collect(),
            webhooks,
            multipart_aborts_due: aborts,
            waiters: waiters as u64,
        }
    }
}

/// Get statistics
///
/// Counts by policy and status, waiting times, and the newest runs. The cost of a request does not
/// depend on the size of the tables: the rows are counted from time to time, and all requests use
/// the same counts.
#[utoipa::path(get, path = "/api/admin/stats", operation_id = "get_stats", tag = "admin",
    responses((status = 200, description = "The statistics", body = StatsView)))]
pub async fn handle(_caller: Caller, state: Data<HttpState>) -> Result<Json<StatsView>, ApiError> {
    Ok(Json(state.app.stats().await?.into()))
}
