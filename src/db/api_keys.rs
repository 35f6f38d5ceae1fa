//! The table of API keys. Only the hash of a secret is stored.

use chrono::TimeDelta;
use entity::api_key::{ActiveModel, Column, Entity, Model};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::engine::pool::Engine;
use super::{DbError, Result};
use crate::domain::api_key::ApiKey;
use crate::domain::bearer_token::SecretHash;
use crate::domain::{Owner, Scopes, Timestamp};

/// Rows in one page of a list.
const PAGE: u64 = 500;

/// `last_used_at` is updated at most once in this interval.
const USE_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// API keys.
#[derive(Clone, Copy)]
pub struct ApiKeys<'a>(pub(in crate::db) &'a Engine);

impl ApiKeys<'_> {
    /// Inserts a new key.
    pub async fn create(self, key: &ApiKey) -> Result<()> {
        let ApiKey {
            id,
            hash,
            name,
            owner,
            scopes,
            created_at,
            expires_at,
            revoked_at,
            last_used_at,
        } = key;
        let row = ActiveModel {
            id: Set(*id),
            hash: Set(hash.to_hex()),
            name: Set(name.clone()),
            owner: Set(owner.as_str().to_owned()),
            scopes: Set(scopes.to_string()),
            created_at: Set(*created_at),
            expires_at: Set(*expires_at),
            revoked_at: Set(*revoked_at),
            last_used_at: Set(*last_used_at),
        };
        Entity::insert(row).exec_without_returning(&self.0.write).await?;
        Ok(())
    }

    /// The key with this id.
    pub async fn find(self, id: Uuid) -> Result<Option<ApiKey>> {
        let row = Entity::find_by_id(id).one(&self.0.read).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// A page of the keys of one owner or of all owners, in the order of their ids, after the id
    /// `after`.
    pub async fn list(self, owner: Option<&Owner>, after: Option<Uuid>) -> Result<Vec<ApiKey>> {
        let mut query = Entity::find();
        if let Some(owner) = owner {
            query = query.filter(Column::Owner.eq(owner.as_str()));
        }
        if let Some(after) = after {
            query = query.filter(Column::Id.gt(after));
        }
        let rows = query.order_by(Column::Id, Order::Asc).limit(PAGE).all(&self.0.read).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Revokes a key; `false` if there is no such key, or if it is revoked already.
    pub async fn revoke(self, id: Uuid, now: Timestamp) -> Result<bool> {
        let done = Entity::update_many()
            .col_expr(Column::RevokedAt, Expr::value(now))
            .filter(Column::Id.eq(id))
            .filter(Column::RevokedAt.is_null())
            .exec(&self.0.write)
            .await?;
        Ok(done.rows_affected == 1)
    }

    /// Records that a key was used, unless a use was recorded within the last minute.
    pub async fn record_use(self, id: Uuid, now: Timestamp) -> Result<()> {
        let stale = Condition::any()
            .add(Column::LastUsedAt.is_null())
            .add(Column::LastUsedAt.lte(now - USE_INTERVAL));
        Entity::update_many()
            .col_expr(Column::LastUsedAt, Expr::value(now))
            .filter(Column::Id.eq(id))
            .filter(stale)
            .exec(&self.0.write)
            .await?;
        Ok(())
    }
}

impl TryFrom<Model> for ApiKey {
    type Error = DbError;

    fn try_from(row: Model) -> Result<Self> {
        let Model {
            id,
            hash,
            name,
            owner,
            scopes,
            created_at,
            expires_at,
            revoked_at,
            last_used_at,
        } = row;
        let corrupt = |column| DbError::Corrupt { table: "api_keys", column, id: id.to_string() };
        let known = Scopes::known(scopes.split(' '));
        if known.to_string() != scopes {
            return Err(corrupt("scopes"));
        }
        Ok(Self {
            id,
            hash: SecretHash::from_hex(&hash).ok_or_else(|| corrupt("hash"))?,
            name,
            owner: Owner::named(owner),
            scopes: known,
            created_at,
            expires_at,
            revoked_at,
            last_used_at,
        })
    }
}
