//! `Idempotency-Key`s: the owner, the request and the created resource of each key.

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
        // The SHA-256 of method, path, query and body, in hex.
        .col(ColumnDef::new(K::Fingerprint).text().not_null())
        // The id of the resource. It is chosen before the resource is created, so that only one of
        // two attempts can create it.
        .col(ColumnDef::new(K::Resource).uuid().not_null())
        // Set in the transaction that creates the resource.
        .col(ColumnDef::new(K::Done).boolean().not_null())
        // The time, by the database's clock, after which another attempt may start.
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
        // Used to delete old keys.
        let mut by_age = Index::create();
        by_age.name("ix_idempotency_created").table(K::Table).col(K::CreatedAt);
        manager.create_index(by_age).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(IdempotencyKeys::Table).to_owned()).await
    }
}
