//! Moves: copies of objects that are not in the location of their upload, and the parameters of
//! runs that move objects.

use sea_orm_migration::prelude::*;

use crate::online;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// New columns of `reconcile_runs`. NULL unless the run is a move.
const COLUMNS: [(&str, &str); 2] = [
    // The name of the store of the former locations.
    ("move_from", "text"),
    // How many objects a process transfers at the same time.
    ("move_concurrency", "integer"),
];

#[derive(DeriveIden)]
enum ObjectCopies {
    Table,
    UploadId,
    Policy,
    Location,
    Key,
    DeleteAfter,
    Deleting,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use ObjectCopies as C;
        let connection = manager.get_connection();
        online::bound_lock_wait(connection).await?;
        for (column, kind) in COLUMNS {
            let add = format!("ALTER TABLE reconcile_runs ADD COLUMN {column} {kind}");
            connection.execute_unprepared(&add).await?;
        }
        let table = Table::create()
            .table(C::Table)
            // No foreign key: the copy of an upload whose row was deleted must be deleted too.
            .col(ColumnDef::new(C::UploadId).uuid().not_null())
            .col(ColumnDef::new(C::Policy).text().not_null())
            // The number of the location of the copy.
            .col(ColumnDef::new(C::Location).integer().not_null())
            .col(ColumnDef::new(C::Key).text().not_null())
            .col(ColumnDef::new(C::DeleteAfter).timestamp_with_time_zone().not_null())
            // A run is about to delete the object. Until it has done so, the upload is not moved to
            // this location.
            .col(ColumnDef::new(C::Deleting).boolean().not_null().default(false))
            .primary_key(Index::create().col(C::UploadId).col(C::Location))
            .to_owned();
        manager.create_table(table).await?;
        let due = Index::create()
            .name("ix_object_copies_due")
            .table(C::Table)
            .col(C::Policy)
            .col(C::Location)
            .col(C::DeleteAfter)
            .col(C::UploadId)
            .to_owned();
        manager.create_index(due).await
    }

    /// The previous version has no moves: runs of this mode are deleted, and the copies that moves
    /// left behind stay in the stores.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        online::bound_lock_wait(connection).await?;
        manager.drop_table(Table::drop().table(ObjectCopies::Table).to_owned()).await?;
        for statement in [
            "DELETE FROM findings WHERE kind = 'not_moved'",
            "DELETE FROM reconcile_locks WHERE mode = 'move'",
            "DELETE FROM reconcile_shards WHERE run_id IN \
             (SELECT id FROM reconcile_runs WHERE mode = 'move')",
            "DELETE FROM reconcile_runs WHERE mode = 'move'",
        ] {
            connection.execute_unprepared(statement).await?;
        }
        for (column, _) in COLUMNS {
            let drop_column = format!("ALTER TABLE reconcile_runs DROP COLUMN {column}");
            connection.execute_unprepared(&drop_column).await?;
        }
        Ok(())
    }
}
