//! The locations of policies: the stores, buckets and prefixes where their objects are. Locations
//! are never deleted, because the rows of uploads refer to them by number.

use entity::location::{ActiveModel, Column, Entity, Model};
use entity::{marker, upload};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect};

use super::engine::pool::Engine;
use super::{DbError, Result};
use crate::domain::{Location, LocationNumber, ObjectKey, PolicyName, Prefix, Timestamp};

/// The bucket of a marker that this database wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedBucket {
    /// The name of its store. Empty if an old version wrote the record.
    pub store: String,
    /// The bucket's name.
    pub bucket: String,
}

/// The locations of all policies.
#[derive(Clone, Copy)]
pub struct Locations<'a>(pub(in crate::db) &'a Engine);

impl Locations<'_> {
    /// All locations, in the order of their policies and numbers. They are read with the write
    /// connection, so that the list contains a location that was just added.
    pub async fn list(self) -> Result<Vec<Location>> {
        let rows = Entity::find()
            .order_by(Column::Policy, Order::Asc)
            .order_by(Column::Number, Order::Asc)
            .all(&self.0.write)
            .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Adds a location. Writes nothing if the policy already has a location with this number, or
    /// with this store, bucket and prefix. The caller reads the locations again in any case.
    pub async fn add(self, location: &Location, now: Timestamp) -> Result<()> {
        let Location { policy, number, store, bucket, prefix } = location;
        let row = ActiveModel {
            policy: Set(policy.as_str().to_owned()),
            number: Set(number.0),
            store: Set(store.clone()),
            bucket: Set(bucket.clone()),
            prefix: Set(prefix.as_str().to_owned()),
            created_at: Set(now),
        };
        Entity::insert(row)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&self.0.write)
            .await?;
        Ok(())
    }

    /// Changes the name of a location's store, after the store was renamed in the configuration.
    /// Changes nothing if the policy already has a location with the new name and the same bucket
    /// and prefix, or if another process has renamed the store first.
    pub async fn rename_store(self, location: &Location, store: &str) -> Result<()> {
        let renamed = Entity::update_many()
            .col_expr(Column::Store, Expr::value(store))
            .filter(Column::Policy.eq(location.policy.as_str()))
            .filter(Column::Number.eq(location.number.0))
            .filter(Column::Store.eq(location.store.as_str()));
        match renamed.exec(&self.0.write).await {
            Ok(_) => Ok(()),
            Err(error) if is_duplicate(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The key of a policy's newest upload. Its prefix is that of the first location, if the
    /// uploads were created by a version that stored no locations.
    pub async fn newest_key(self, policy: &PolicyName) -> Result<Option<ObjectKey>> {
        let key: Option<String> = upload::Entity::find()
            .select_only()
            .column(upload::Column::Key)
            .filter(upload::Column::Policy.eq(policy.as_str()))
            .order_by(upload::Column::Id, Order::Desc)
            .limit(1)
            .into_tuple()
            .one(&self.0.read)
            .await?;
        Ok(key.map(ObjectKey::stored))
    }

    /// The buckets where this database has markers of a prefix, the newest marker first.
    pub async fn marked_buckets(self, prefix: &Prefix) -> Result<Vec<MarkedBucket>> {
        let mut rows = marker::Entity::find()
            .filter(marker::Column::Prefix.eq(prefix.as_str()))
            .all(&self.0.read)
            .await?;
        rows.sort_by_key(|row| std::cmp::Reverse((row.lap_at, row.written_at)));
        let bucket = |row: marker::Model| MarkedBucket { store: row.store, bucket: row.bucket };
        Ok(rows.into_iter().map(bucket).collect())
    }
}

fn is_duplicate(error: &sea_orm::DbErr) -> bool {
    matches!(error.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_)))
}

impl TryFrom<Model> for Location {
    type Error = DbError;

    fn try_from(row: Model) -> Result<Self> {
        let Model { policy, number, store, bucket, prefix, created_at: _ } = row;
        let Ok(prefix) = Prefix::parse(&prefix) else {
            let id = format!("{policy}/{number}");
            return Err(DbError::Corrupt { table: "locations", column: "prefix", id });
        };
        let (policy, number) = (PolicyName::new(policy), LocationNumber(number));
        Ok(Self { policy, number, store, bucket, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;
    use crate::db::testing::on_both;
    use crate::domain::transition::tests::at;

    fn location(number: i32, store: &str) -> Location {
        Location {
            policy: PolicyName::default(),
            number: LocationNumber(number),
            store: store.into(),
            bucket: "b".into(),
            prefix: Prefix::parse("p/").unwrap(),
        }
    }

    async fn check(db: Db) {
        let locations = db.locations();
        locations.add(&location(0, "a"), at(1)).await.unwrap();
        // The first has the store, bucket and prefix of an existing location, the second its
        // number.
        locations.add(&location(1, "a"), at(2)).await.unwrap();
        locations.add(&location(0, "b"), at(2)).await.unwrap();
        assert_eq!(locations.list().await.unwrap(), [location(0, "a")]);
        locations.add(&location(1, "b"), at(2)).await.unwrap();
        locations.rename_store(&location(0, "a"), "b").await.unwrap();
        locations.rename_store(&location(0, "z"), "y").await.unwrap();
        assert_eq!(locations.list().await.unwrap(), [location(0, "a"), location(1, "b")]);
        locations.rename_store(&location(0, "a"), "c").await.unwrap();
        assert_eq!(locations.list().await.unwrap(), [location(0, "c"), location(1, "b")]);
    }

    #[tokio::test]
    async fn a_policy_has_each_place_and_each_number_only_once() {
        on_both(check).await;
    }
}
