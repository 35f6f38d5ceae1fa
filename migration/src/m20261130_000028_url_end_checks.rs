//! Uploads that no client confirms. Each is checked once after its URL has expired.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum UrlEndChecks {
    Table,
    UploadId,
    DueAt,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use UrlEndChecks as C;
        let table = Table::create()
            .table(C::Table)
            // No foreign key: this row is written before the row of its upload.
            .col(ColumnDef::new(C::UploadId).uuid().not_null().primary_key())
            // The time of the check, or the end of the lease of the process that does it.
            .col(ColumnDef::new(C::DueAt).timestamp_with_time_zone().not_null())
            .to_owned();
        manager.create_table(table).await?;
        let mut index = Index::create();
        index.name("ix_url_end_checks_due").table(C::Table).col(C::DueAt);
        manager.create_index(index).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(UrlEndChecks::Table).to_owned()).await
    }
}
