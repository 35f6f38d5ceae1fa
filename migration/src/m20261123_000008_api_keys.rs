//! API keys, and secrets that all processes of a database share.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum ApiKeys {
    Table,
    Id,
    Hash,
    Name,
    Owner,
    Scopes,
    CreatedAt,
    ExpiresAt,
    RevokedAt,
    LastUsedAt,
}

#[derive(DeriveIden)]
enum Secrets {
    Table,
    Name,
    Value,
}

fn api_keys() -> TableCreateStatement {
    use ApiKeys as K;
    Table::create()
        .table(K::Table)
        .col(ColumnDef::new(K::Id).uuid().not_null().primary_key())
        // The SHA-256 of the secret, in hex. The secret itself is not stored.
        .col(ColumnDef::new(K::Hash).text().not_null())
        .col(ColumnDef::new(K::Name).text().not_null())
        .col(ColumnDef::new(K::Owner).text().not_null())
        // Separated by spaces.
        .col(ColumnDef::new(K::Scopes).text().not_null())
        .col(ColumnDef::new(K::CreatedAt).timestamp_with_time_zone().not_null())
        .col(ColumnDef::new(K::ExpiresAt).timestamp_with_time_zone())
        .col(ColumnDef::new(K::RevokedAt).timestamp_with_time_zone())
        .col(ColumnDef::new(K::LastUsedAt).timestamp_with_time_zone())
        .to_owned()
}

fn secrets() -> TableCreateStatement {
    use Secrets as S;
    Table::create()
        .table(S::Table)
        .col(ColumnDef::new(S::Name).text().not_null().primary_key())
        .col(ColumnDef::new(S::Value).text().not_null())
        .to_owned()
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(api_keys()).await?;
        manager.create_table(secrets()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(Secrets::Table).to_owned()).await?;
        manager.drop_table(Table::drop().table(ApiKeys::Table).to_owned()).await
    }
}
