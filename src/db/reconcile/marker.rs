//! The id of this database, and the buckets that carry its marker.

use entity::{instance, marker};
use sea_orm::ActiveValue::Set;
use sea_orm::{EntityTrait, sea_query::OnConflict};
use uuid::Uuid;

use crate::db::Result;
use crate::db::engine::pool::Engine;
use crate::domain::Timestamp;

/// The key of the only row.
const ONLY: i32 = 1;

/// The instance id and the buckets that carry its marker.
#[derive(Clone, Copy)]
pub struct Marker<'a>(pub(in crate::db) &'a Engine);

impl Marker<'_> {
    /// The id of this database. The first caller sets it to `candidate`.
    pub async fn instance_id(self, candidate: Uuid) -> Result<Uuid> {
        if let Some(row) = instance::Entity::find_by_id(ONLY).one(&self.0.read).await? {
            return Ok(row.uuid);
        }
        let row = instance::ActiveModel { id: Set(ONLY), uuid: Set(candidate) };
        instance::Entity::insert(row)
            .on_conflict(OnConflict::column(instance::Column::Id).do_nothing().to_owned())
            .exec_without_returning(&self.0.write)
            .await?;
        let row = instance::Entity::find_by_id(ONLY).one(&self.0.write).await?;
        Ok(row.map_or(candidate, |row| row.uuid))
    }

    /// Whether this database ever wrote its marker below a prefix of a bucket.
    pub async fn is_recorded(self, bucket: &str, prefix: &str) -> Result<bool> {
        let id = (bucket.to_owned(), prefix.to_owned());
        Ok(marker::Entity::find_by_id(id).one(&self.0.read).await?.is_some())
    }

    /// Records that the marker was written.
    pub async fn record(self, bucket: &str, prefix: &str, now: Timestamp) -> Result<()> {
        let row = marker::ActiveModel {
            bucket: Set(bucket.to_owned()),
            prefix: Set(prefix.to_owned()),
            written_at: Set(now),
        };
        let known = [marker::Column::Bucket, marker::Column::Prefix];
        marker::Entity::insert(row)
            .on_conflict(OnConflict::columns(known).do_nothing().to_owned())
            .exec_without_returning(&self.0.write)
            .await?;
        Ok(())
    }
}
