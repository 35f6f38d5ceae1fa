//! The history of uploads: one row for each change of status. Earlier changes are unknown.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum UploadHistory {
    Table,
    UploadId,
    Version,
    At,
    FromStatus,
    ToStatus,
    ChangedBy,
    Reason,
    Detail,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use UploadHistory as H;
        let table = Table::create()
            .table(H::Table)
            // No foreign key: it would cost a lookup for each row. The rows are deleted in the
            // transaction that deletes their upload.
            .col(ColumnDef::new(H::UploadId).uuid().not_null())
            // The version of the upload's row after the change.
            .col(ColumnDef::new(H::Version).big_integer().not_null())
            .col(ColumnDef::new(H::At).timestamp_with_time_zone().not_null())
            .col(ColumnDef::new(H::FromStatus).text().not_null())
            .col(ColumnDef::new(H::ToStatus).text().not_null())
            // `client`, `confirm`, `event`, `scan`, `direct`, `retention` or `admin:<owner>`.
            .col(ColumnDef::new(H::ChangedBy).text().not_null())
            // The reason of a rejection or removal, as `uploads.reason`.
            .col(ColumnDef::new(H::Reason).text())
            // A sentence, if it says more than the other columns.
            .col(ColumnDef::new(H::Detail).text())
            .primary_key(Index::create().col(H::UploadId).col(H::Version))
            .to_owned();
        manager.create_table(table).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(UploadHistory::Table).to_owned()).await
    }
}
