//! Quotas of owners, counted by indexes in the transaction that creates an upload or makes it pending
//! again.
//!
//! A cancelled upload counts among the pending ones until its URL expires: the URL can't be revoked,
//! so bytes may still arrive. Parts and direct uploads need this service, so cancelling them frees
//! the quota at once.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use entity::upload::{Column, Entity};
use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SelectStatement, UnionType};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait as _, QueryFilter,
    QuerySelect, QueryTrait as _, Statement,
};

use crate::db::{DbError, Result};
use crate::domain::upload::Strategy;
use crate::domain::{Owner, Status, Timestamp, Upload};

/// An owner's limits; `None` is no limit.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Pending uploads, and cancelled ones whose URL has not expired.
    pub pending_uploads: Option<u64>,
    /// Bytes of these uploads.
    pub pending_bytes: Option<u64>,
    /// Uploads created within 24 hours.
    pub uploads_per_day: Option<u64>,
    /// The size of an upload without a declared size: `max_size` by policy.
    pub max_sizes: BTreeMap<String, u64>,
}

impl Quota {
    /// Whether there are no limits.
    pub fn is_empty(&self) -> bool {
        let Self { pending_uploads, pending_bytes, uploads_per_day, max_sizes: _ } = self;
        pending_uploads.is_none() && pending_bytes.is_none() && uploads_per_day.is_none()
    }

    /// Whether pending uploads are limited.
    pub(super) fn bounds_pending(&self) -> bool {
        self.pending_uploads.is_some() || self.pending_bytes.is_some()
    }

    fn max_size(&self, policy: &str) -> u64 {
        self.max_sizes.get(policy).copied().unwrap_or_default()
    }
}

impl Quota {
    /// Serializes creations and renewals of these owners until the transaction ends. `SQLite` has one
    /// writer anyway; on PostgreSQL two transactions would not see each other's rows.
    pub(super) async fn lock(txn: &impl ConnectionTrait, owners: &BTreeSet<&str>) -> Result<()> {
        if txn.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        for owner in owners {
            let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
            let lock = Statement::from_sql_and_values(DbBackend::Postgres, sql, [(*owner).into()]);
            txn.query_one_raw(lock).await?;
        }
        Ok(())
    }

    /// Fails if a new upload would exceed the quota.
    pub(super) async fn check(&self, txn: &impl ConnectionTrait, upload: &Upload) -> Result<()> {
        if let Some(limit) = self.uploads_per_day {
            let since = upload.created_at - TimeDelta::hours(24);
            let today = Entity::find()
                .filter(Column::Owner.eq(upload.owner.as_str()))
                .filter(Column::CreatedAt.gt(since))
                .count(txn)
                .await?;
            if today >= limit {
                return Err(DbError::OverQuota { what: "uploads within 24 hours", limit });
            }
        }
        self.check_pending(txn, upload).await
    }

    /// Fails if the upload, which is not counted yet, would exceed the limits of pending uploads.
    pub(super) async fn check_pending(
        &self,
        txn: &impl ConnectionTrait,
        upload: &Upload,
    ) -> Result<()> {
        if !self.bounds_pending() {
            return Ok(());
        }
        // A new or reopened upload was changed just now.
        let pending = count_pending(txn, &upload.owner, upload.updated_at).await?;
        let uploads: i64 = pending.iter().map(|(_, uploads, _, _)| uploads).sum();
        if let Some(limit) = self.pending_uploads
            && uploads.unsigned_abs() >= limit
        {
            return Err(DbError::OverQuota { what: "pending uploads", limit });
        }
        let Some(limit) = self.pending_bytes else { return Ok(()) };
        let own = upload.declared.size.unwrap_or_else(|| self.max_size(upload.policy.as_str()));
        let bytes = pending.iter().fold(own, |bytes, (policy, uploads, sized, declared)| {
            let unsized_ = uploads.saturating_sub(*sized).unsigned_abs();
            let guessed = unsized_.saturating_mul(self.max_size(policy));
            bytes.saturating_add(guessed).saturating_add(declared.unwrap_or(0).unsigned_abs())
        });
        if bytes > limit {
            return Err(DbError::OverQuota { what: "pending bytes", limit });
        }
        Ok(())
    }
}

/// Policy, number of uploads, number of those with a declared size, and the sum of these sizes.
type Pending = (String, i64, i64, Option<i64>);

/// Counts an owner's uploads whose bytes may still arrive.
async fn count_pending(
    txn: &impl ConnectionTrait,
    owner: &Owner,
    now: Timestamp,
) -> Result<Vec<Pending>> {
    let query = pending_query(owner, now);
    let mut counts = Vec::new();
    for row in txn.query_all(&query).await? {
        let sum = row.try_get_by_index(3)?;
        let count = |index| row.try_get_by_index(index);
        counts.push((row.try_get_by_index(0)?, count(1)?, count(2)?, sum));
    }
    Ok(counts)
}

fn pending_query(owner: &Owner, now: Timestamp) -> SelectStatement {
    let of_owner = || {
        let query = Entity::find().select_only().columns([Column::Policy, Column::DeclaredSize]);
        query.filter(Column::Owner.eq(owner.as_str()))
    };
    let pending = of_owner().filter(Column::Status.eq(Status::Pending.name()));
    // The state is a literal: the index is partial, and the planner must see the state.
    let cancelled = of_owner()
        .filter(Expr::cust("\"uploads\".\"status\" = 'cancelled'"))
        .filter(Column::UrlExpiresAt.gt(now))
        .filter(Column::Strategy.is_in([Strategy::Put, Strategy::Post].map(Strategy::name)));
    let mut both = pending.into_query();
    both.union(UnionType::All, cancelled.into_query());
    let size = || Expr::col("declared_size");
    Query::select()
        .column("policy")
        .expr(Expr::cust("COUNT(*)"))
        .expr(size().count())
        .expr(size().sum().cast_as("bigint"))
        .from_subquery(both, "open")
        .group_by_col("policy")
        .take()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::{MANY_UPLOADS_OWNER, insert_many_uploads, on_both};

    #[tokio::test]
    async fn an_owner_s_ended_uploads_are_not_read_for_its_quota() {
        on_both(async |db| {
            insert_many_uploads(&db).await;
            let backend = db.engine.read.get_database_backend();
            let now = "2026-01-01T00:00:00Z".parse().unwrap();
            let owner = Owner::named(MANY_UPLOADS_OWNER);
            let query = backend.build(&pending_query(&owner, now));
            let plan = db.engine.explain(query).await.unwrap().join("\n");
            assert!(plan.contains("ix_uploads_cancelled"), "{plan}");
            let counts = async |now| count_pending(&db.engine.read, &owner, now).await.unwrap();
            let pending = |uploads| vec![("tracks".to_owned(), uploads, 0, None)];
            assert_eq!(counts(now).await, pending(20));
            assert_eq!(counts(chrono::DateTime::UNIX_EPOCH).await, pending(2020));
        })
        .await;
    }
}
