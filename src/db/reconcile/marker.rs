//! The identity of this database (its id and its home), and the records of the markers that it
//! wrote. See [`crate::domain::marker`] for markers, laps and copies of a database.

use entity::{instance, marker};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, UpdateMany};
use uuid::Uuid;

use crate::db::Result;
use crate::db::engine::pool::Engine;
use crate::domain::Timestamp;
use crate::domain::marker::Remembered;

/// The key of the only row.
const ONLY: i32 = 1;

/// This database's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The id that the database writes into its markers.
    pub id: Uuid,
    /// The previous id, if the id was reissued.
    pub former: Option<Uuid>,
    /// The home of the database when it was last used: an identifier of the place where it was
    /// stored.
    pub home: Option<String>,
}

/// Where a marker is.
#[derive(Debug, Clone, Copy)]
pub struct MarkerLocation<'a> {
    /// The store's name.
    pub store: &'a str,
    /// The bucket's name.
    pub bucket: &'a str,
    /// The policy's prefix.
    pub prefix: &'a str,
}

/// The identity of this database, and the markers that it wrote.
#[derive(Clone, Copy)]
pub struct Markers<'a>(pub(in crate::db) &'a Engine);

impl<'a> Markers<'a> {
    /// This database's identity. The first caller sets its id to `candidate`.
    pub async fn instance(self, candidate: Uuid) -> Result<Instance> {
        if let Some(row) = instance::Entity::find_by_id(ONLY).one(&self.0.read).await? {
            return Ok(row.into());
        }
        let row = instance::ActiveModel {
            id: Set(ONLY),
            uuid: Set(candidate),
            home: Set(self.0.home().await.map(str::to_owned)),
            former_uuid: Set(None),
        };
        instance::Entity::insert(row)
            .on_conflict(OnConflict::column(instance::Column::Id).do_nothing().to_owned())
            .exec_without_returning(&self.0.write)
            .await?;
        let row = instance::Entity::find_by_id(ONLY).one(&self.0.write).await?;
        Ok(row.map_or(Instance { id: candidate, former: None, home: None }, Instance::from))
    }

    /// The home of this database now; `None` if that is unknown.
    pub async fn home(self) -> Option<&'a str> {
        self.0.home().await
    }

    /// Records the home of this database. If it had another home `before`, the database was moved
    /// or copied: from now on all its markers are unsettled, and their laps must be replaced.
    /// Returns `false` if another process has recorded the change first.
    pub async fn set_home(self, before: Option<&str>, home: &str, now: Timestamp) -> Result<bool> {
        let transaction = self.0.begin().await?;
        let was = match before {
            Some(before) => instance::Column::Home.eq(before),
            None => instance::Column::Home.is_null(),
        };
        let set = instance::Entity::update_many()
            .col_expr(instance::Column::Home, Expr::value(home))
            .filter(instance::Column::Id.eq(ONLY))
            .filter(was);
        let recorded = set.exec(&transaction).await?.rows_affected > 0;
        if recorded && before.is_some() {
            marker::Entity::update_many()
                .col_expr(marker::Column::MovedAt, Expr::value(Some(now)))
                .col_expr(marker::Column::LapAt, Expr::value(None::<Timestamp>))
                .exec(&transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(recorded)
    }

    /// Reads the record of a marker. A record of the same bucket and prefix with the name of a
    /// store that is no longer configured is also accepted: the store was renamed, or an old
    /// version wrote the record without the store's name.
    pub async fn find(
        self,
        location: MarkerLocation<'_>,
        is_configured: impl Fn(&str) -> bool,
    ) -> Result<Option<(String, Remembered)>> {
        let rows = marker::Entity::find()
            .filter(marker::Column::Bucket.eq(location.bucket))
            .filter(marker::Column::Prefix.eq(location.prefix))
            .all(&self.0.read)
            .await?;
        let own = rows.iter().find(|row| row.store == location.store);
        let row = own.or_else(|| rows.iter().find(|row| !is_configured(&row.store)));
        Ok(row.map(|row| (row.store.clone(), row.into())))
    }

    /// Changes the store's name in a record to the current name.
    pub async fn rename_store(self, location: MarkerLocation<'_>, before: &str) -> Result<()> {
        update(MarkerLocation { store: before, ..location })
            .col_expr(marker::Column::Store, Expr::value(location.store))
            .exec(&self.0.write)
            .await?;
        Ok(())
    }

    /// Commits the lap of the first marker at a location, before the marker is written. Returns the
    /// lap to write. If another process was first, this is its lap.
    pub async fn begin_first(
        self,
        location: MarkerLocation<'_>,
        lap: Uuid,
    ) -> Result<Option<Uuid>> {
        let row = marker::ActiveModel { next_lap: Set(Some(lap)), ..new_row(location) };
        self.insert(row).await?;
        let id =
            (location.store.to_owned(), location.bucket.to_owned(), location.prefix.to_owned());
        let row = marker::Entity::find_by_id(id).one(&self.0.write).await?;
        Ok(row.and_then(|row| row.next_lap))
    }

    /// Records that the marker exists, for a marker of a version without laps.
    pub async fn record_written(self, location: MarkerLocation<'_>, now: Timestamp) -> Result<()> {
        let row = marker::ActiveModel { written_at: Set(Some(now)), ..new_row(location) };
        self.insert(row).await
    }

    /// Commits the next lap, before it is written into the marker. `replaces` is the current lap.
    /// Returns `false` if another process has already committed or replaced a lap, or if the marker
    /// is contested.
    pub async fn begin(
        self,
        location: MarkerLocation<'_>,
        replaces: Option<Uuid>,
        lap: Uuid,
    ) -> Result<bool> {
        let current = match replaces {
            Some(lap) => marker::Column::Lap.eq(lap),
            None => marker::Column::Lap.is_null(),
        };
        let updated = update(location)
            .col_expr(marker::Column::NextLap, Expr::value(Some(lap)))
            .filter(current)
            .filter(marker::Column::NextLap.is_null())
            .filter(marker::Column::ContestedAt.is_null())
            .exec(&self.0.write)
            .await?;
        Ok(updated.rows_affected > 0)
    }

    /// Records that the next lap was written into the marker.
    pub async fn confirm(
        self,
        location: MarkerLocation<'_>,
        lap: Uuid,
        now: Timestamp,
    ) -> Result<()> {
        let written = Expr::col(marker::Column::WrittenAt).if_null(now);
        update(location)
            .col_expr(marker::Column::Lap, Expr::value(Some(lap)))
            .col_expr(marker::Column::NextLap, Expr::value(None::<Uuid>))
            .col_expr(marker::Column::LapAt, Expr::value(Some(now)))
            .col_expr(marker::Column::WrittenAt, written)
            .filter(marker::Column::NextLap.eq(lap))
            .exec(&self.0.write)
            .await?;
        Ok(())
    }

    /// Records that a marker is settled: its lap lasted long enough after the database moved at
    /// `moved_at`.
    pub async fn settle(self, location: MarkerLocation<'_>, moved_at: Timestamp) -> Result<()> {
        update(location)
            .col_expr(marker::Column::MovedAt, Expr::value(None::<Timestamp>))
            .filter(marker::Column::MovedAt.eq(moved_at))
            .exec(&self.0.write)
            .await?;
        Ok(())
    }

    /// Records that another database with the same id was noticed.
    pub async fn contest(self, location: MarkerLocation<'_>, now: Timestamp) -> Result<()> {
        self.insert(new_row(location)).await?;
        update(location)
            .col_expr(marker::Column::ContestedAt, Expr::value(Some(now)))
            .filter(marker::Column::ContestedAt.is_null())
            .exec(&self.0.write)
            .await?;
        Ok(())
    }

    /// Takes over a marker, after an operator has decided that it belongs to this database. `found`
    /// is the lap in the marker, if it has one. `lap` is the next lap to write.
    pub async fn take(
        self,
        location: MarkerLocation<'_>,
        found: Option<Uuid>,
        lap: Uuid,
    ) -> Result<()> {
        let row = marker::ActiveModel {
            lap: Set(found),
            next_lap: Set(Some(lap)),
            lap_at: Set(None),
            moved_at: Set(None),
            contested_at: Set(None),
            ..new_row(location)
        };
        let columns = [marker::Column::Store, marker::Column::Bucket, marker::Column::Prefix];
        let replaced = [
            marker::Column::Lap,
            marker::Column::NextLap,
            marker::Column::LapAt,
            marker::Column::MovedAt,
            marker::Column::ContestedAt,
        ];
        marker::Entity::insert(row)
            .on_conflict(OnConflict::columns(columns).update_columns(replaced).to_owned())
            .exec_without_returning(&self.0.write)
            .await?;
        Ok(())
    }

    /// Changes the id of this database, and deletes the records of all markers, because they belong
    /// to the previous id. Changes nothing and returns `false` if the current id is not `before`.
    pub async fn reissue(self, before: Uuid, id: Uuid) -> Result<bool> {
        let transaction = self.0.begin().await?;
        let updated = instance::Entity::update_many()
            .col_expr(instance::Column::Uuid, Expr::value(id))
            .col_expr(instance::Column::FormerUuid, Expr::value(Some(before)))
            .filter(instance::Column::Id.eq(ONLY))
            .filter(instance::Column::Uuid.eq(before))
            .exec(&transaction)
            .await?;
        if updated.rows_affected > 0 {
            marker::Entity::delete_many().exec(&transaction).await?;
        }
        transaction.commit().await?;
        Ok(updated.rows_affected > 0)
    }

    async fn insert(self, row: marker::ActiveModel) -> Result<()> {
        let columns = [marker::Column::Store, marker::Column::Bucket, marker::Column::Prefix];
        marker::Entity::insert(row)
            .on_conflict(OnConflict::columns(columns).do_nothing().to_owned())
            .exec_without_returning(&self.0.write)
            .await?;
        Ok(())
    }
}

fn new_row(location: MarkerLocation<'_>) -> marker::ActiveModel {
    marker::ActiveModel {
        store: Set(location.store.to_owned()),
        bucket: Set(location.bucket.to_owned()),
        prefix: Set(location.prefix.to_owned()),
        written_at: Set(None),
        lap: Set(None),
        next_lap: Set(None),
        lap_at: Set(None),
        moved_at: Set(None),
        contested_at: Set(None),
    }
}

fn update(location: MarkerLocation<'_>) -> UpdateMany<marker::Entity> {
    marker::Entity::update_many()
        .filter(marker::Column::Store.eq(location.store))
        .filter(marker::Column::Bucket.eq(location.bucket))
        .filter(marker::Column::Prefix.eq(location.prefix))
}

impl From<instance::Model> for Instance {
    fn from(row: instance::Model) -> Self {
        let instance::Model { id: _, uuid, home, former_uuid } = row;
        Self { id: uuid, former: former_uuid, home }
    }
}

impl From<&marker::Model> for Remembered {
    fn from(row: &marker::Model) -> Self {
        Self {
            written: row.written_at.is_some(),
            lap: row.lap,
            next: row.next_lap,
            lap_at: row.lap_at,
            moved_at: row.moved_at,
            contested: row.contested_at.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;
    use crate::db::testing::on_both;
    use crate::domain::transition::tests::at;

    const LOCATION: MarkerLocation<'_> = MarkerLocation { store: "a", bucket: "b", prefix: "p/" };

    async fn remembered(db: &Db) -> Remembered {
        db.markers().find(LOCATION, |_| true).await.unwrap().unwrap().1
    }

    async fn laps(db: Db) {
        let (markers, id) = (db.markers(), Uuid::from_u128);
        assert_eq!(markers.find(LOCATION, |_| true).await.unwrap(), None);
        assert_eq!(markers.begin_first(LOCATION, id(1)).await.unwrap(), Some(id(1)));
        assert_eq!(
            markers.begin_first(LOCATION, id(2)).await.unwrap(),
            Some(id(1)),
            "the lap of the first process"
        );
        assert!(!remembered(&db).await.written);
        markers.confirm(LOCATION, id(1), at(1)).await.unwrap();
        assert!(
            !markers.begin(LOCATION, Some(id(9)), id(2)).await.unwrap(),
            "the lap was replaced"
        );
        assert!(markers.begin(LOCATION, Some(id(1)), id(2)).await.unwrap());
        assert!(
            !markers.begin(LOCATION, Some(id(1)), id(3)).await.unwrap(),
            "a lap is already committed"
        );
        markers.confirm(LOCATION, id(3), at(2)).await.unwrap();
        let expected = Remembered {
            written: true,
            lap: Some(id(1)),
            next: Some(id(2)),
            lap_at: Some(at(1)),
            ..Remembered::default()
        };
        assert_eq!(remembered(&db).await, expected);
        markers.contest(LOCATION, at(3)).await.unwrap();
        assert!(remembered(&db).await.contested);
        markers.take(LOCATION, Some(id(8)), id(4)).await.unwrap();
        let taken = Remembered { lap: Some(id(8)), next: Some(id(4)), lap_at: None, ..expected };
        assert_eq!(remembered(&db).await, taken);
    }

    #[tokio::test]
    async fn the_next_lap_is_committed_by_one_caller_before_it_replaces_the_lap() {
        on_both(laps).await;
    }

    async fn identity(db: Db) {
        let (markers, id) = (db.markers(), Uuid::from_u128);
        let home = markers.home().await.unwrap().to_owned();
        let first = Instance { id: id(1), former: None, home: Some(home.clone()) };
        assert_eq!(markers.instance(id(1)).await.unwrap(), first);
        assert_eq!(markers.instance(id(2)).await.unwrap(), first);
        markers.begin_first(LOCATION, id(5)).await.unwrap();
        markers.confirm(LOCATION, id(5), at(1)).await.unwrap();
        assert!(!markers.set_home(Some("elsewhere"), &home, at(2)).await.unwrap());
        assert_eq!(remembered(&db).await.moved_at, None);
        assert!(markers.set_home(Some(&home), "elsewhere", at(2)).await.unwrap());
        let moved = remembered(&db).await;
        assert_eq!((moved.moved_at, moved.lap_at), (Some(at(2)), None));
        markers.settle(LOCATION, at(1)).await.unwrap();
        assert_eq!(remembered(&db).await.moved_at, Some(at(2)), "the database was moved again");
        markers.settle(LOCATION, at(2)).await.unwrap();
        assert_eq!(remembered(&db).await.moved_at, None);
        assert!(!markers.reissue(id(7), id(3)).await.unwrap());
        assert!(markers.reissue(id(1), id(3)).await.unwrap());
        let instance = markers.instance(id(4)).await.unwrap();
        assert_eq!((instance.id, instance.former), (id(3), Some(id(1))));
        assert_eq!(
            markers.find(LOCATION, |_| true).await.unwrap(),
            None,
            "all records were deleted"
        );
    }

    #[tokio::test]
    async fn the_home_and_the_former_id_of_a_database_are_recorded() {
        on_both(identity).await;
    }

    async fn stores(db: Db) {
        let (markers, id) = (db.markers(), Uuid::from_u128);
        let former = MarkerLocation { store: "former", ..LOCATION };
        markers.record_written(former, at(1)).await.unwrap();
        let other_is_configured = markers.find(LOCATION, |_| true).await.unwrap();
        assert_eq!(other_is_configured, None, "each configured store has its own record");
        let (store, _) = markers.find(LOCATION, |store| store != "former").await.unwrap().unwrap();
        assert_eq!(store, "former");
        markers.rename_store(LOCATION, &store).await.unwrap();
        assert!(remembered(&db).await.written);
        assert_eq!(markers.begin_first(former, id(1)).await.unwrap(), Some(id(1)));
    }

    #[tokio::test]
    async fn the_record_of_a_renamed_store_is_found_by_its_former_name() {
        on_both(stores).await;
    }
}
