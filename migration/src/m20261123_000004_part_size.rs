//! The part size of a multipart upload. It stays the same for the life of the upload, even if the
//! configuration changes.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum Uploads {
    Table,
    PartSize,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = ColumnDef::new(Uploads::PartSize).big_integer().null().to_owned();
        let add = Table::alter().table(Uploads::Table).add_column(column).to_owned();
        manager.alter_table(add).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drop = Table::alter().table(Uploads::Table).drop_column(Uploads::PartSize).to_owned();
        manager.alter_table(drop).await
    }
}
