//! Row counts and ages for metrics and administrators, at a bounded cost.
//!
//! Counting reads whole indexes (`ix_uploads_stats`, `ix_deliveries_ended`), so it is not done for
//! each request: at most once a second, and at most during one hundredth of the time. The other
//! queries read only a few rows at one end of an index.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use entity::{upload, webhook_delivery as delivery};
use sea_orm::sea_query::{Alias, Expr, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect,
};

use super::engine::pool::Engine;
use super::multipart_aborts::MultipartAborts;
use super::reconcile::runs::Runs;
use super::{DbError, Result};

pub use super::engine::pool::PoolState;
use crate::domain::webhook::DeliveryStatus;
use crate::domain::{PolicyName, Status, Timestamp};

/// The shortest time for which counts are reused.
const MIN_AGE: Duration = Duration::from_secs(1);

/// Counts are reused for this multiple of the time that counting took.
const REUSE_FACTOR: u32 = 100;

/// The longest time that a reader waits for new counts. After that it gets the previous ones.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// The largest number of deliveries of a state that are counted.
const MOST_DELIVERIES: u64 = 100_000;

/// Row counts by state.
#[derive(Debug, Default)]
pub struct Counts {
    /// Uploads by policy and state; states without uploads are left out.
    pub uploads: BTreeMap<(String, Status), u64>,
    /// Pending webhook deliveries, up to 100,000.
    pub waiting: u64,
    /// Webhook deliveries that were given up, up to 100,000.
    pub dead: u64,
    /// Recorded aborts of multipart uploads, due or not.
    pub aborts: u64,
    /// Objects without a row by policy, as the newest successful audit saw them.
    pub orphans: BTreeMap<PolicyName, u64>,
}

/// Counts and their age.
#[derive(Debug, Clone)]
pub struct Counted {
    /// The counts.
    pub counts: Arc<Counts>,
    at: Instant,
    took: Duration,
}

impl Counted {
    /// The age of the counts.
    pub fn age(&self) -> Duration {
        self.at.elapsed()
    }

    fn is_fresh(&self) -> bool {
        self.age() < MIN_AGE.max(self.took.saturating_mul(REUSE_FACTOR))
    }
}

/// The newest counts.
#[derive(Debug, Default)]
pub(super) struct CountCache {
    known: Mutex<Option<Counted>>,
    turn: tokio::sync::Mutex<()>,
}

impl CountCache {
    fn known(&self) -> Option<Counted> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Counts and ages for metrics and administrators.
#[derive(Clone, Copy)]
pub struct Stats<'a> {
    pub(super) engine: &'a Engine,
    pub(super) cache: &'a Arc<CountCache>,
}

impl Stats<'_> {
    /// The counts; `None` if the first ones are not ready yet.
    pub async fn counts(self) -> Result<Option<Counted>> {
        if let Some(known) = self.cache.known().filter(Counted::is_fresh) {
            return Ok(Some(known));
        }
        // In a separate task, which continues if the caller is dropped.
        let (engine, cache) = (self.engine.clone(), Arc::clone(self.cache));
        let counting =
            tokio::spawn(async move { Stats { engine: &engine, cache: &cache }.count().await });
        match tokio::time::timeout(MAX_WAIT, counting).await {
            Ok(Ok(counted)) => counted.map(Some),
            Ok(Err(_)) | Err(_) => Ok(self.cache.known()),
        }
    }

    /// Counts, unless another caller has counted in the meantime.
    async fn count(self) -> Result<Counted> {
        let _turn = self.cache.turn.lock().await;
        if let Some(known) = self.cache.known().filter(Counted::is_fresh) {
            return Ok(known);
        }
        let begun = Instant::now();
        let counts = Counts {
            uploads: self.count_uploads().await?,
            waiting: self.count_deliveries(DeliveryStatus::Pending).await?,
            dead: self.count_deliveries(DeliveryStatus::Dead).await?,
            aborts: MultipartAborts(self.engine).count().await?,
            orphans: Runs(self.engine).count_orphans().await?,
        };
        let now = Instant::now();
        let counted = Counted { counts: Arc::new(counts), at: now, took: now - begun };
        *self.cache.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(counted.clone());
        Ok(counted)
    }

    async fn count_uploads(self) -> Result<BTreeMap<(String, Status), u64>> {
        use upload::Column;
        let rows: Vec<(String, String, i64)> = upload::Entity::find()
            .select_only()
            .columns([Column::Status, Column::Policy])
            // `COUNT(*)` needs only the index; counting a column would read the rows.
            .column_as(Expr::cust("COUNT(*)"), "rows_counted")
            .group_by(Column::Status)
            .group_by(Column::Policy)
            .into_tuple()
            .all(&self.engine.read)
            .await?;
        let read = |(status, policy, count): (String, String, i64)| {
            let corrupt = |()| DbError::Corrupt {
                table: "uploads",
                column: "status",
                id: "(unknown)".into(),
            };
            let status: Status = status.parse().map_err(corrupt)?;
            Ok(((policy, status), u64::try_from(count).unwrap_or_default()))
        };
        rows.into_iter().map(read).collect()
    }

    async fn count_deliveries(self, status: DeliveryStatus) -> Result<u64> {
        let some = Query::select()
            .expr(Expr::val(1))
            .from(delivery::Entity)
            .and_where(delivery::Column::Status.eq(status.name()))
            .limit(MOST_DELIVERIES)
            .to_owned();
        let count = Query::select()
            .expr(Expr::cust("COUNT(*)"))
            .from_subquery(some, Alias::new("some"))
            .to_owned();
        let Some(row) = self.engine.read.query_one(&count).await? else { return Ok(0) };
        let count: i64 = row.try_get_by_index(0)?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// When the oldest pending upload of a policy was created.
    pub async fn oldest_pending(self, policy: &PolicyName) -> Result<Option<Timestamp>> {
        use upload::Column;
        let oldest = upload::Entity::find()
            .select_only()
            .column(Column::CreatedAt)
            .filter(Column::Status.eq(Status::Pending.name()))
            .filter(Column::Policy.eq(policy.as_str()))
            .order_by(Column::CreatedAt, Order::Asc)
            .limit(1);
        Ok(oldest.into_tuple().one(&self.engine.read).await?)
    }

    /// The times of creation and verification of a policy's newest verified uploads.
    pub async fn newest_uploaded(
        self,
        policy: &PolicyName,
        limit: u64,
    ) -> Result<Vec<(Timestamp, Timestamp)>> {
        use upload::Column;
        let newest = upload::Entity::find()
            .select_only()
            .columns([Column::CreatedAt, Column::UploadedAt])
            .filter(Column::Status.eq(Status::Uploaded.name()))
            .filter(Column::Policy.eq(policy.as_str()))
            .order_by(Column::CreatedAt, Order::Desc)
            .limit(limit);
        let rows: Vec<(Timestamp, Option<Timestamp>)> =
            newest.into_tuple().all(&self.engine.read).await?;
        Ok(rows.into_iter().filter_map(|(created, at)| Some((created, at?))).collect())
    }

    /// The connections of this process, by pool.
    pub fn pools(self) -> Vec<PoolState> {
        self.engine.pools()
    }
}
