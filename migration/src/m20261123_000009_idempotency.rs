//! `Idempotency-Key`s: which request of whom made which resource.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum IdempotencyKeys {
    Table,
    Owner,
    Key,
    Fingerprint,
    Resource,
    Done,
    LeaseUntil,
    CreatedAt,
}

fn idempotency_keys() -> TableCreateStatement {
    use IdempotencyKeys as K;
    Table::create()
        .table(K::Table)
        .col(ColumnDef::new(K::Owner).text().not_null())
        .col(ColumnDef::new(K::Key).text().not_null())
        // SHA-256 of method, path, query and body, in hex.
        .col(ColumnDef::new(K::Fingerprint).text().not_null())
        // The id that the resource gets: chosen before it is made, so that of two attempts
        // only one can make it.
        .col(ColumnDef::new(K::Resource).uuid().not_null())
        // Set in the transaction that makes the resource.
        .col(ColumnDef::new(K::Done).boolean().not_null())
        // By the database's clock: from when on another may try.
        .col(ColumnDef::new(K::LeaseUntil).timestamp_with_time_zone().not_null())
        .col(ColumnDef::new(K::CreatedAt).timestamp_with_time_zone().not_null())
        .primary_key(Index::create().col(K::Owner).col(K::Key))
        .to_owned()
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use IdempotencyKeys as K;
        manager.create_table(idempotency_keys()).await?;
        // Old ones are pruned by it.
        let mut by_age = Index::create();
        by_age.name("ix_idempotency_created").table(K::Table).col(K::CreatedAt);
        manager.create_index(by_age).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(IdempotencyKeys::Table).to_owned()).await
    }
}
