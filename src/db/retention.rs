//! Deletes old rows in bounded batches, and updates the statistics of the query planner.

use entity::{
    attachment, finding, idempotency_key, reconcile_run as run, track, upload, upload_history,
    webhook_delivery,
};
use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait as _, EntityName as _, EntityTrait, Order, QueryFilter,
    QueryOrder, QuerySelect as _, QueryTrait as _,
};
use uuid::Uuid;

use super::Result;
use super::engine::pool::Engine;
use crate::domain::run::RunStatus;
use crate::domain::{Status, Timestamp};

/// Deletion of old rows.
#[derive(Clone, Copy)]
pub struct Retention<'a>(pub(in crate::db) &'a Engine);

impl Retention<'_> {
    /// Deletes a batch of runs that started before a time and have ended. Returns the number of
    /// deleted runs; 0 means that no more are due.
    pub async fn prune_runs(self, before: Timestamp, limit: u64) -> Result<u64> {
        let old = run::Entity::find()
            .select_only()
            .column(run::Column::Id)
            .filter(run::Column::StartedAt.lt(before))
            .filter(run::Column::Status.ne(RunStatus::Running.name()))
            .order_by(run::Column::StartedAt, Order::Asc)
            .limit(limit);
        let ids: Vec<Uuid> = old.into_tuple().all(&self.0.read).await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let done = run::Entity::delete_many().filter(run::Column::Id.is_in(ids));
        Ok(done.exec(&self.0.write).await?.rows_affected)
    }

    /// Deletes a batch of findings that no run has seen since a time. Returns the number of deleted
    /// findings; 0 means that no more are due.
    pub async fn prune_findings(self, before: Timestamp, limit: u64) -> Result<u64> {
        use finding::Column;
        let position = [Column::Kind, Column::Policy, Column::Key];
        let old = finding::Entity::find()
            .select_only()
            .columns(position)
            .filter(Column::LastSeenAt.lt(before))
            .order_by(Column::LastSeenAt, Order::Asc)
            .limit(limit)
            .into_query();
        let done = finding::Entity::delete_many()
            .filter(Expr::tuple(position.map(Expr::col)).in_subquery(old))
            // A run may have seen one of them in the meantime.
            .filter(Column::LastSeenAt.lt(before));
        Ok(done.exec(&self.0.write).await?.rows_affected)
    }

    /// Deletes a batch of uploads in a final state whose object was deleted before a time, together
    /// with their history. The newest upload of a subject is kept, and uploads whose URL expired
    /// after that time are kept too. Returns their number.
    pub async fn prune_ended_uploads(self, before: Timestamp, limit: u64) -> Result<u64> {
        let newest = Query::select()
            .column(attachment::Column::LatestUploadId)
            .from(attachment::Entity)
            .and_where(attachment::Column::LatestUploadId.is_not_null())
            .to_owned();
        let ended = Status::ALL.into_iter().filter(|status| status.is_final()).map(Status::name);
        // A row whose URL can still store bytes is kept, so that these bytes are deleted and do not
        // become an orphan.
        let old = Condition::all()
            .add(upload::Column::ObjectDeletedAt.lt(before))
            .add(upload::Column::UrlExpiresAt.lt(before))
            .add(upload::Column::Status.is_in(ended));
        let ids: Vec<Uuid> = upload::Entity::find()
            .select_only()
            .column(upload::Column::Id)
            .filter(old.clone())
            .filter(upload::Column::Id.not_in_subquery(newest))
            .order_by(upload::Column::ObjectDeletedAt, Order::Asc)
            .limit(limit)
            .into_tuple()
            .all(&self.0.read)
            .await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let txn = self.0.begin().await?;
        // An object may have arrived for one of them in the meantime.
        let done = upload::Entity::delete_many()
            .filter(upload::Column::Id.is_in(ids.iter().copied()))
            .filter(old)
            .exec(&txn)
            .await?;
        let existing = Query::select()
            .column(upload::Column::Id)
            .from(upload::Entity)
            .and_where(upload::Column::Id.is_in(ids.iter().copied()))
            .to_owned();
        upload_history::Entity::delete_many()
            .filter(upload_history::Column::UploadId.is_in(ids))
            .filter(upload_history::Column::UploadId.not_in_subquery(existing))
            .exec(&txn)
            .await?;
        txn.commit().await?;
        Ok(done.rows_affected)
    }

    /// Updates the statistics of the query planner for the large tables that change often. Called
    /// after a migration or deletions. Empty tables are left out: with statistics of zero rows,
    /// PostgreSQL reads a whole table while it grows. Does nothing on `SQLite`, whose planner works
    /// without statistics here.
    pub async fn update_statistics(self) -> Result<()> {
        if !self.0.is_postgres() {
            return Ok(());
        }
        let large = [
            upload::Entity.table_name(),
            upload_history::Entity.table_name(),
            track::Entity.table_name(),
            webhook_delivery::Entity.table_name(),
            idempotency_key::Entity.table_name(),
            finding::Entity.table_name(),
        ];
        for table in large {
            let any = Query::select().expr(Expr::val(1)).from(table).limit(1).take();
            if self.0.write.query_one(&any).await?.is_some() {
                self.0.write.execute_unprepared(&format!("ANALYZE {table}")).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait as _, Statement};

    use crate::db::Db;
    use crate::db::testing::on_both;
    use crate::domain::transition::tests::upload_in;
    use crate::domain::{Status, Upload};

    #[tokio::test]
    async fn statistics_are_updated_for_tables_with_rows_only() {
        on_both(async |db: Db| {
            let upload = Upload { slot: None, ..upload_in(Status::Pending) };
            db.uploads().create(upload, None).await.unwrap();
            db.retention().update_statistics().await.unwrap();
            if !db.engine.is_postgres() {
                return;
            }
            let of = async |table: &str| {
                let sql = format!(
                    "SELECT reltuples::int8 AS rows FROM pg_class WHERE relname = '{table}'"
                );
                let statement = Statement::from_string(sea_orm::DbBackend::Postgres, sql);
                let row = db.engine.read.query_one_raw(statement).await.unwrap().unwrap();
                row.try_get::<i64>("", "rows").unwrap()
            };
            // The value is -1 for a table that was never analyzed.
            assert_eq!([of("uploads").await, of("tracks").await], [1, -1]);
        })
        .await;
    }
}
