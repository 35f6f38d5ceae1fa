//! Quotas of owners. The usage is counted with indexes, in the transaction that creates an upload
//! or makes it pending again.
//!
//! A cancelled upload counts as pending until its URL expires: the URL can't be revoked, so bytes
//! may still arrive. Bytes of multipart and direct uploads cannot arrive without this service, so
//! cancelling them frees the quota at once.

use std::collections::BTreeMap;

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

const UPLOADS_PER_DAY: &str = "uploads within 24 hours";
const PENDING_UPLOADS: &str = "pending uploads";
const PENDING_BYTES: &str = "pending bytes";

/// The name of a limit, as in [`DbError::OverQuota`].
pub fn quota_name(text: &str) -> Option<&'static str> {
    [UPLOADS_PER_DAY, PENDING_UPLOADS, PENDING_BYTES].into_iter().find(|name| *name == text)
}

/// An owner's limits; `None` is no limit.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Pending uploads, and cancelled uploads whose URL has not expired.
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

    /// The limits for uploads that become pending again. The daily limit does not apply to them.
    pub(super) fn of_reopened(&self) -> Self {
        Self { uploads_per_day: None, ..self.clone() }
    }

    /// Serializes creations and renewals of these owners until the transaction ends. PostgreSQL
    /// needs a lock for this, because two transactions do not see each other's new rows. `SQLite`
    /// has only one writer anyway.
    async fn lock(txn: &impl ConnectionTrait, owners: impl Iterator<Item = &str>) -> Result<()> {
        if txn.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        for owner in owners {
            let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
            let lock = Statement::from_sql_and_values(DbBackend::Postgres, sql, [owner.into()]);
            txn.query_one_raw(lock).await?;
        }
        Ok(())
    }

    /// Locks the owners of new uploads, and counts what they use: at most two queries for each
    /// owner, for any number of uploads.
    pub(super) async fn usage(
        &self,
        txn: &impl ConnectionTrait,
        new: impl Iterator<Item = &Upload>,
    ) -> Result<Usage<'_>> {
        let mut usage = Usage { quota: self, of: BTreeMap::new() };
        if self.is_empty() {
            return Ok(usage);
        }
        let owners: BTreeMap<&str, &Upload> =
            new.map(|upload| (upload.owner.as_str(), upload)).collect();
        Self::lock(txn, owners.keys().copied()).await?;
        for (owner, upload) in owners {
            let mut counts = self.count_pending(txn, upload).await?;
            if self.uploads_per_day.is_some() {
                let since = upload.created_at - TimeDelta::hours(24);
                counts.today = Entity::find()
                    .filter(Column::Owner.eq(owner))
                    .filter(Column::CreatedAt.gt(since))
                    .count(txn)
                    .await?;
            }
            usage.of.insert(owner.to_owned(), counts);
        }
        Ok(usage)
    }

    /// Counts the pending uploads of the owner of `upload`, without `upload` itself, which is not
    /// pending in the database yet.
    async fn count_pending(&self, txn: &impl ConnectionTrait, upload: &Upload) -> Result<Counts> {
        let mut counts = Counts::default();
        if !self.bounds_pending() {
            return Ok(counts);
        }
        // `updated_at` is the current time, because the upload was just created or reopened.
        for (policy, uploads, sized, declared) in
            count_pending(txn, &upload.owner, upload.updated_at).await?
        {
            let unsized_ = uploads.saturating_sub(sized).unsigned_abs();
            let guessed = unsized_.saturating_mul(self.max_size(&policy));
            counts.pending += uploads.unsigned_abs();
            counts.bytes = counts.bytes.saturating_add(guessed);
            counts.bytes = counts.bytes.saturating_add(declared.unwrap_or(0).unsigned_abs());
        }
        Ok(counts)
    }

    /// The bytes that an upload counts for: its declared size, or the largest possible size.
    fn bytes_of(&self, upload: &Upload) -> u64 {
        upload.declared.size.unwrap_or_else(|| self.max_size(upload.policy.as_str()))
    }
}

/// The usage of some owners, in a transaction that has locked these owners.
pub(super) struct Usage<'a> {
    quota: &'a Quota,
    of: BTreeMap<String, Counts>,
}

/// The usage of one owner.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    /// Uploads created within 24 hours.
    today: u64,
    /// Pending uploads, and cancelled ones whose URL has not expired.
    pending: u64,
    /// Bytes of these.
    bytes: u64,
}

impl Usage<'_> {
    /// Fails if one more upload would exceed its owner's quota.
    pub(super) fn check(&self, upload: &Upload) -> Result<()> {
        let Quota { pending_uploads, pending_bytes, uploads_per_day, max_sizes: _ } = self.quota;
        let Counts { today, pending, bytes } = self.counts(upload);
        let bytes = bytes.saturating_add(self.quota.bytes_of(upload));
        for (what, limit, after) in [
            (UPLOADS_PER_DAY, uploads_per_day, today.saturating_add(1)),
            (PENDING_UPLOADS, pending_uploads, pending.saturating_add(1)),
            (PENDING_BYTES, pending_bytes, bytes),
        ] {
            if let Some(limit) = limit.filter(|limit| after > *limit) {
                return Err(DbError::OverQuota { what, limit });
            }
        }
        Ok(())
    }

    /// Counts one more upload.
    pub(super) fn add(&mut self, upload: &Upload) {
        if self.quota.is_empty() {
            return;
        }
        let Counts { today, pending, bytes } = self.counts(upload);
        let counts = Counts {
            today: today.saturating_add(1),
            pending: pending.saturating_add(1),
            bytes: bytes.saturating_add(self.quota.bytes_of(upload)),
        };
        self.of.insert(upload.owner.as_str().to_owned(), counts);
    }

    fn counts(&self, upload: &Upload) -> Counts {
        self.of.get(upload.owner.as_str()).copied().unwrap_or_default()
    }
}

/// Policy, number of uploads, number of uploads with a declared size, and the sum of these sizes.
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
    // The status is a literal, not a parameter: otherwise the planner can't use the partial index.
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
