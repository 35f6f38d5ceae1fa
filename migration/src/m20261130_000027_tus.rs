//! Uploads that the service receives in pieces of any size: the progress of each, its writer, and
//! where its bytes are.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum TusUploads {
    Table,
    UploadId,
    Stored,
    Length,
    Metadata,
    NextPart,
    Fence,
    Writer,
    LeaseUntil,
}

#[derive(DeriveIden)]
enum TusPieces {
    Table,
    UploadId,
    Start,
    Size,
    PartNumber,
    Tail,
    Etag,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use TusPieces as P;
        use TusUploads as U;
        let uploads = Table::create()
            .table(U::Table)
            // No foreign key: the rows of ended uploads are pruned.
            .col(ColumnDef::new(U::UploadId).uuid().not_null().primary_key())
            // The number of durable bytes, counted from the start of the file.
            .col(ColumnDef::new(U::Stored).big_integer().not_null())
            // The length of the file; null until the client knows it.
            .col(ColumnDef::new(U::Length).big_integer())
            // The client's header, which is returned unchanged.
            .col(ColumnDef::new(U::Metadata).text())
            // The next part number. Each number is used by one writer, once.
            .col(ColumnDef::new(U::NextPart).integer().not_null())
            // The newest request that wants to write. An older writer stops.
            .col(ColumnDef::new(U::Fence).big_integer().not_null())
            // The request that may write until the lease ends, by the database's clock.
            .col(ColumnDef::new(U::Writer).big_integer().not_null())
            .col(ColumnDef::new(U::LeaseUntil).timestamp_with_time_zone().not_null())
            .to_owned();
        manager.create_table(uploads).await?;
        let pieces = Table::create()
            .table(P::Table)
            .col(ColumnDef::new(P::UploadId).uuid().not_null())
            // The offset of its first byte. The pieces of an upload follow each other without gaps.
            .col(ColumnDef::new(P::Start).big_integer().not_null())
            .col(ColumnDef::new(P::Size).big_integer().not_null())
            // The number of a part of the store's multipart upload, or NULL for a tail.
            .col(ColumnDef::new(P::PartNumber).integer())
            // For a tail, which is an object: the fence of its writer, which is in the object's
            // key.
            .col(ColumnDef::new(P::Tail).big_integer())
            .col(ColumnDef::new(P::Etag).text().not_null())
            .primary_key(Index::create().col(P::UploadId).col(P::Start))
            .to_owned();
        manager.create_table(pieces).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(TusPieces::Table).to_owned()).await?;
        manager.drop_table(Table::drop().table(TusUploads::Table).to_owned()).await
    }
}
