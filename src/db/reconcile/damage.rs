//! Counts damage, which is a loss that no owner asked for (see [`crate::domain::damage`]): the
//! damage that a run would do, by owner, and the damage that single requests did in each hour.

use entity::{damage_hour as hour, missing_candidate as candidate, upload};
use sea_orm::sea_query::{
    Alias, Expr, ExprTrait as _, OnConflict, Query, SelectStatement, UnionType,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait as _, EntityTrait, Order, QueryFilter,
    QuerySelect as _, QueryTrait as _, Select,
};

use super::missing_candidates::of;
use super::scan::due_damage;
use crate::db::Result;
use crate::db::engine::pool::Engine;
use crate::domain::run::{CandidateKind, RunShard};
use crate::domain::{Owner, PolicyName, Timestamp};

/// The row of an hour is deleted after this number of hours.
const KEEP_HOURS: i64 = 48;

/// The damage that a run would do under one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamageByOwner {
    /// How many uploads it affects.
    pub total: u64,
    /// The owners above the limit, each with the number of affected uploads. The most affected
    /// owner is first.
    pub over: Vec<(Owner, u64)>,
}

/// Damage of runs and of single requests.
#[derive(Clone, Copy)]
pub struct Damage<'a>(pub(in crate::db) &'a Engine);

impl Damage<'_> {
    /// The damage that a run would do: its candidates and, with `due_at`, the deletions that are
    /// due at that time. An upload counts once. At most `most` owners over the limit are returned.
    pub async fn by_owner(
        self,
        shard: &RunShard,
        due_at: Option<Timestamp>,
        limit: u64,
        most: u64,
    ) -> Result<DamageByOwner> {
        let affected = || affected(shard, due_at);
        let count = || Expr::cust("COUNT(*)");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let owners = Query::select()
            .column(upload::Column::Owner)
            .expr_as(count(), "affected_count")
            .from_subquery(affected(), Alias::new("affected"))
            .add_group_by([Expr::col(upload::Column::Owner)])
            .and_having(count().gt(limit))
            .order_by_expr(count(), Order::Desc)
            .order_by(upload::Column::Owner, Order::Asc)
            .limit(most)
            .take();
        let mut over = Vec::new();
        for row in self.0.read.query_all(&owners).await? {
            let owner: String = row.try_get_by_index(0)?;
            let count: i64 = row.try_get_by_index(1)?;
            over.push((Owner::named(owner), u64::try_from(count).unwrap_or_default()));
        }
        let total =
            Query::select().expr(count()).from_subquery(affected(), Alias::new("affected")).take();
        let total = match self.0.read.query_one(&total).await? {
            Some(row) => row.try_get_by_index::<i64>(0)?,
            None => 0,
        };
        Ok(DamageByOwner { total: u64::try_from(total).unwrap_or_default(), over })
    }

    /// Counts one more damaged upload of a policy in the hour of `now`. Returns whether the hour's
    /// limit allows it, or `None` if the hour has no row yet: the caller then calls
    /// [`Self::open_hour`] and repeats the call.
    pub async fn spend(self, policy: &PolicyName, now: Timestamp) -> Result<Option<bool>> {
        use hour::Column;
        let spent = hour::Entity::update_many()
            .col_expr(Column::Damage, Expr::col(Column::Damage).add(1))
            .filter(Column::Policy.eq(policy.as_str()))
            .filter(Column::Hour.eq(hour_of(now)))
            .exec_with_returning(&self.0.write)
            .await?;
        Ok(spent.first().map(|hour| hour.damage <= hour.allowed))
    }

    /// Inserts the row of an hour with its limit, if there is none, and deletes the rows of old
    /// hours.
    pub async fn open_hour(self, policy: &PolicyName, now: Timestamp, allowed: u64) -> Result<()> {
        let now = hour_of(now);
        let new = hour::ActiveModel {
            policy: Set(policy.as_str().to_owned()),
            hour: Set(now),
            damage: Set(0),
            allowed: Set(i64::try_from(allowed).unwrap_or(i64::MAX)),
        };
        hour::Entity::insert(new)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&self.0.write)
            .await?;
        let old = hour::Entity::delete_many().filter(hour::Column::Hour.lt(now - KEEP_HOURS));
        old.exec(&self.0.write).await?;
        Ok(())
    }
}

/// Hours since 1970.
fn hour_of(now: Timestamp) -> i64 {
    now.timestamp().div_euclid(3600)
}

/// The affected uploads: id and owner.
fn affected(shard: &RunShard, due_at: Option<Timestamp>) -> SelectStatement {
    let candidates = CandidateKind::DAMAGE
        .iter()
        .filter(|kind| **kind != CandidateKind::DueDamage || due_at.is_some())
        .copied();
    let ids = of(shard, candidates).select_only().column(candidate::Column::UploadId).into_query();
    let candidates = upload::Entity::find().filter(upload::Column::Id.in_subquery(ids));
    let mut all = owners(candidates);
    if let Some(at) = due_at {
        all.union(UnionType::Distinct, owners(due_damage(&shard.policy, at)));
    }
    all
}

fn owners(query: Select<upload::Entity>) -> SelectStatement {
    query.select_only().columns([upload::Column::Id, upload::Column::Owner]).into_query()
}
