//! The owner of the uploads that a run creates for objects without a row.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum ReconcileRuns {
    Table,
    AdoptOwner,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // NULL means that the run adopts nothing.
        let column = ColumnDef::new(ReconcileRuns::AdoptOwner).text().take();
        let add = Table::alter().table(ReconcileRuns::Table).add_column(column).take();
        manager.alter_table(add).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drop = Table::alter()
            .table(ReconcileRuns::Table)
            .drop_column(ReconcileRuns::AdoptOwner)
            .take();
        manager.alter_table(drop).await
    }
}
