//! Inspection: the results of inspectors, the inspectors that an upload waits for, and the queue of
//! inspections.

use sea_orm_migration::prelude::*;

use crate::online;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// New columns of `uploads`.
const COLUMNS: [&str; 3] = [
    // Why a file was rejected, as a sentence.
    "detail",
    // The results of inspectors: a JSON object with one object for each inspector.
    "annotations",
    // The inspectors that an upload in status `inspecting` waits for, separated by commas.
    "waiting_for",
];

#[derive(DeriveIden)]
enum Inspections {
    Table,
    UploadId,
    Inspector,
    Etag,
    VersionId,
    Status,
    Attempts,
    NextAttemptAt,
    QueuedAt,
    Error,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use Inspections as I;
        let connection = manager.get_connection();
        online::bound_lock_wait(connection).await?;
        for column in COLUMNS {
            let add = format!("ALTER TABLE uploads ADD COLUMN {column} text");
            connection.execute_unprepared(&add).await?;
        }
        let table = Table::create()
            .table(I::Table)
            // No foreign key: it would cost a lookup for each row, and the rows are deleted in the
            // transaction that ends the inspection.
            .col(ColumnDef::new(I::UploadId).uuid().not_null())
            .col(ColumnDef::new(I::Inspector).text().not_null())
            // The bytes to inspect.
            .col(ColumnDef::new(I::Etag).text().not_null())
            .col(ColumnDef::new(I::VersionId).text())
            // `queued`, `deferred` or `held`.
            .col(ColumnDef::new(I::Status).text().not_null())
            // Incremented by each claim.
            .col(ColumnDef::new(I::Attempts).integer().not_null())
            // When it may be claimed: the end of the pause or of the lease. NULL: never.
            .col(ColumnDef::new(I::NextAttemptAt).timestamp_with_time_zone())
            .col(ColumnDef::new(I::QueuedAt).timestamp_with_time_zone().not_null())
            // The last error.
            .col(ColumnDef::new(I::Error).text())
            .primary_key(Index::create().col(I::UploadId).col(I::Inspector))
            .to_owned();
        manager.create_table(table).await?;
        let due = Index::create()
            .name("ix_inspections_due")
            .table(I::Table)
            .col(I::Inspector)
            .col(I::NextAttemptAt)
            .to_owned();
        manager.create_index(due).await?;
        let oldest = Index::create()
            .name("ix_inspections_oldest")
            .table(I::Table)
            .col(I::Inspector)
            .col(I::Status)
            .col(I::QueuedAt)
            .to_owned();
        manager.create_index(oldest).await
    }

    /// The previous version knows neither the status `inspecting` nor the reason `inspection`. It
    /// verifies objects of inspected uploads again, and serves them without an inspection.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        online::bound_lock_wait(connection).await?;
        manager.drop_table(Table::drop().table(Inspections::Table).to_owned()).await?;
        for (table, column, from, to) in [
            ("uploads", "status", "inspecting", "pending"),
            ("attachments", "status", "inspecting", "pending"),
            ("tracks", "status", "inspecting", "pending"),
            ("upload_history", "from_status", "inspecting", "pending"),
            ("upload_history", "to_status", "inspecting", "pending"),
            ("uploads", "reason", "inspection", "content-mismatch"),
            ("upload_history", "reason", "inspection", "content-mismatch"),
        ] {
            let replace = format!("UPDATE {table} SET {column} = '{to}' WHERE {column} = '{from}'");
            connection.execute_unprepared(&replace).await?;
        }
        for column in COLUMNS {
            let drop_column = format!("ALTER TABLE uploads DROP COLUMN {column}");
            connection.execute_unprepared(&drop_column).await?;
        }
        Ok(())
    }
}
