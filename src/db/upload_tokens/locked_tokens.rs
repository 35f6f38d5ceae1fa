//! The upload tokens of a transaction that creates uploads. One statement locks and reads their
//! rows, and another one writes the counts, for any number of tokens and uploads. Because of the
//! locks, `max_uploads` is never exceeded, and a revocation applies at once on all replicas.
//!
//! Lock order, to avoid deadlocks: subjects, then tokens in the order of their ids, then the quotas
//! of owners.

use std::collections::{BTreeMap, BTreeSet};

use entity::upload_token::{Column, Entity};
use sea_orm::sea_query::{CaseStatement, Expr};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};
use uuid::Uuid;

use crate::db::Result;
use crate::db::engine::bulk_update::ensure_all;
use crate::domain::upload_token::TokenError;
use crate::domain::{Timestamp, UploadTokenId};

/// Tokens whose rows this transaction has locked, and how many uploads it creates with each.
pub(in crate::db) struct LockedTokens(BTreeMap<Uuid, LockedToken>);

struct LockedToken {
    /// The number of uploads that the token created before this transaction.
    uploads: i64,
    max_uploads: Option<i64>,
    is_revoked: bool,
    /// The number of uploads that this transaction creates.
    new: i64,
}

type Row = (Uuid, i64, Option<i64>, Option<Timestamp>);

impl LockedTokens {
    /// Locks and reads these tokens.
    pub(in crate::db) async fn lock(
        txn: &DatabaseTransaction,
        postgres: bool,
        tokens: impl Iterator<Item = UploadTokenId>,
    ) -> Result<Self> {
        let ids: BTreeSet<Uuid> = tokens.map(|token| token.0).collect();
        if ids.is_empty() {
            return Ok(Self(BTreeMap::new()));
        }
        let query = Entity::find()
            .select_only()
            .columns([Column::Id, Column::Uploads, Column::MaxUploads, Column::RevokedAt])
            .filter(Column::Id.is_in(ids))
            .order_by_asc(Column::Id);
        let query = if postgres { query.lock_exclusive() } else { query };
        let rows: Vec<Row> = query.into_tuple().all(txn).await?;
        let token = |(id, uploads, max_uploads, revoked_at): Row| {
            let is_revoked = revoked_at.is_some();
            (id, LockedToken { uploads, max_uploads, is_revoked, new: 0 })
        };
        Ok(Self(rows.into_iter().map(token).collect()))
    }

    /// Fails if the token does not allow one more upload.
    pub(in crate::db) fn check(&self, token: UploadTokenId) -> Result<(), TokenError> {
        let row = self.0.get(&token.0).filter(|row| !row.is_revoked).ok_or(TokenError::Unknown)?;
        match row.max_uploads {
            Some(max) if row.uploads + row.new >= max => {
                Err(TokenError::Exhausted(max.unsigned_abs()))
            }
            _ => Ok(()),
        }
    }

    /// Counts one upload that this transaction creates.
    pub(in crate::db) fn count(&mut self, token: UploadTokenId) {
        if let Some(row) = self.0.get_mut(&token.0) {
            row.new += 1;
        }
    }

    /// Writes the new counts.
    pub(in crate::db) async fn save(self, txn: &DatabaseTransaction) -> Result<()> {
        let used: Vec<_> = self.0.into_iter().filter(|(_, row)| row.new > 0).collect();
        if used.is_empty() {
            return Ok(());
        }
        let total = CaseStatement::new();
        let total = used.iter().fold(total, |case, (id, row)| {
            case.case(Column::Id.eq(*id), Expr::value(row.uploads + row.new))
        });
        let done = Entity::update_many()
            .col_expr(Column::Uploads, total.finally(Expr::col(Column::Uploads)).into())
            .filter(Column::Id.is_in(used.iter().map(|(id, _)| *id)))
            .exec(txn)
            .await?;
        ensure_all(&used, done.rows_affected)
    }
}
