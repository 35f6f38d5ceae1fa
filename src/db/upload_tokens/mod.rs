//! The table of upload tokens. Only the hash of a secret is stored. [`locked_tokens`] counts the
//! uploads of each token in the transactions that create the uploads.

use entity::upload_token::{Column, Entity, Model};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait, EntityTrait, IntoActiveModel as _, Order, QueryFilter,
    QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::engine::pagination::keyset;
use super::engine::pool::Engine;
use super::idempotency::{Claim, complete};
use super::{Cursor, Page, Result};
use crate::domain::bearer_token::SecretHash;
use crate::domain::{Owner, Timestamp, UploadToken, UploadTokenId};

pub(super) mod locked_tokens;
mod row;

/// The name of the order of token lists, in their cursors.
pub const UPLOAD_TOKEN_ORDER: &str = "upload-tokens:-created_at";

/// Which page of a list of tokens to read.
#[derive(Debug, Default, Clone)]
pub struct UploadTokenFilter {
    /// The end of the previous page.
    pub cursor: Option<Cursor>,
    /// The largest number of rows.
    pub limit: u64,
}

/// Upload tokens.
#[derive(Clone, Copy)]
pub struct UploadTokens<'a>(pub(in crate::db) &'a Engine);

impl UploadTokens<'_> {
    /// Inserts a new token, and completes an idempotency key in the same transaction. `false` if
    /// the key is gone: then nothing is inserted.
    pub async fn create(self, token: &UploadToken, claim: Option<&Claim>) -> Result<bool> {
        let txn = self.0.begin().await?;
        if let Some(claim) = claim
            && !complete(&txn, claim, None).await?
        {
            txn.rollback().await?;
            return Ok(false);
        }
        let row = row::to_row(token).into_active_model().reset_all();
        Entity::insert(row).exec_without_returning(&txn).await?;
        txn.commit().await?;
        Ok(true)
    }

    /// The token with this id, of any owner.
    pub async fn find(self, id: UploadTokenId) -> Result<Option<UploadToken>> {
        let row = Entity::find_by_id(id.0).one(&self.0.read).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// A page of the tokens of one owner or of all owners, newest first.
    pub async fn list(
        self,
        owner: Option<&Owner>,
        filter: &UploadTokenFilter,
    ) -> Result<Page<UploadToken>> {
        let mut query = Entity::find();
        if let Some(owner) = owner {
            query = query.filter(Column::Owner.eq(owner.as_str()));
        }
        if let Some(cursor) = &filter.cursor
            && let Ok(at) = cursor.value.parse::<Timestamp>()
        {
            query = query.filter(keyset(Column::CreatedAt, Column::Id, at.into(), cursor.id, true));
        }
        let query = query
            .order_by(Column::CreatedAt, Order::Desc)
            .order_by(Column::Id, Order::Desc)
            .limit(filter.limit + 1);
        let rows: Vec<Model> = query.all(&self.0.read).await?;
        let page = Page::cut(rows, filter.limit, |row| Cursor {
            order: UPLOAD_TOKEN_ORDER.to_owned(),
            value: row.created_at.to_rfc3339(),
            id: row.id,
        });
        let items = page.items.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok(Page { items, next: page.next })
    }

    /// Replaces the secret of a token. Returns `false` if the owner has no such token, or if it is
    /// revoked.
    pub async fn replace_secret(
        self,
        owner: &Owner,
        id: UploadTokenId,
        hash: SecretHash,
    ) -> Result<bool> {
        let done = Entity::update_many()
            .col_expr(Column::Hash, Expr::value(hash.to_hex()))
            .filter(Column::Id.eq(id.0))
            .filter(Column::Owner.eq(owner.as_str()))
            .filter(Column::RevokedAt.is_null())
            .exec(&self.0.write)
            .await?;
        Ok(done.rows_affected == 1)
    }

    /// Revokes a token. Returns `false` if it is already revoked, or if there is no such token, or
    /// if it does not belong to the given owner.
    pub async fn revoke(
        self,
        owner: Option<&Owner>,
        id: UploadTokenId,
        now: Timestamp,
    ) -> Result<bool> {
        let mut update = Entity::update_many()
            .col_expr(Column::RevokedAt, Expr::value(now))
            .filter(Column::Id.eq(id.0))
            .filter(Column::RevokedAt.is_null());
        if let Some(owner) = owner {
            update = update.filter(Column::Owner.eq(owner.as_str()));
        }
        Ok(update.exec(&self.0.write).await?.rows_affected == 1)
    }

    /// Deletes a batch of tokens that expired or were revoked before this time, but not their
    /// uploads. Returns the number of deleted tokens; 0 means that no more are due.
    pub async fn prune(self, before: Timestamp, limit: u64) -> Result<u64> {
        let ids: Vec<Uuid> = Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::EndsAt.lt(before))
            .order_by(Column::EndsAt, Order::Asc)
            .limit(limit)
            .into_tuple()
            .all(&self.0.read)
            .await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let done = Entity::delete_many().filter(Column::Id.is_in(ids));
        Ok(done.exec(&self.0.write).await?.rows_affected)
    }
}
