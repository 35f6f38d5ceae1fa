//! Uploads in pieces: the checksums of their parts, which the completion of the multipart upload
//! contains.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum TusUploads {
    Table,
    CheckedParts,
}

#[derive(DeriveIden)]
enum TusPieces {
    Table,
    Checksum,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::online::bound_lock_wait(manager.get_connection()).await?;
        // Whether the parts have checksums. This is decided when the multipart upload is created,
        // so a later change of the store's capabilities has no effect on it.
        let checked =
            ColumnDef::new(TusUploads::CheckedParts).boolean().not_null().default(false).to_owned();
        let uploads = Table::alter().table(TusUploads::Table).add_column(checked).to_owned();
        manager.alter_table(uploads).await?;
        // The CRC-64/NVME of a part, in base64.
        let checksum = ColumnDef::new(TusPieces::Checksum).text().to_owned();
        let pieces = Table::alter().table(TusPieces::Table).add_column(checksum).to_owned();
        manager.alter_table(pieces).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let pieces =
            Table::alter().table(TusPieces::Table).drop_column(TusPieces::Checksum).to_owned();
        manager.alter_table(pieces).await?;
        let uploads = Table::alter()
            .table(TusUploads::Table)
            .drop_column(TusUploads::CheckedParts)
            .to_owned();
        manager.alter_table(uploads).await
    }
}
