//! Quotas of owners, counted by indexes in the transaction that creates an upload or makes it pending
//! again.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use entity::upload::{Column, Entity};
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait as _, QueryFilter,
    QuerySelect, Statement,
};

use crate::db::{DbError, Result};
use crate::domain::{Status, Upload};

/// An owner's limits; `None` is no limit.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Pending uploads.
    pub pending_uploads: Option<u64>,
    /// Bytes of pending uploads.
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
        let sum = Expr::col(Column::DeclaredSize).sum().cast_as("bigint");
        let pending: Vec<(String, i64, i64, Option<i64>)> = Entity::find()
            .select_only()
            .column(Column::Policy)
            .column_as(Column::Id.count(), "uploads")
            .column_as(Column::DeclaredSize.count(), "sized")
            .expr_as(sum, "bytes")
            .filter(Column::Owner.eq(upload.owner.as_str()))
            .filter(Column::Status.eq(Status::Pending.name()))
            .group_by(Column::Policy)
            .into_tuple()
            .all(txn)
            .await?;
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
