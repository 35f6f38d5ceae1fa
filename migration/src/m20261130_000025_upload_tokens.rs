//! Upload tokens, and which token created an upload.
//!
//! `uploads.upload_token_id` is not a foreign key, because a token's row is deleted long before its
//! uploads.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum UploadTokens {
    Table,
    Id,
    Hash,
    Owner,
    Policy,
    MaxUploads,
    Uploads,
    MaxSize,
    AttachTo,
    Metadata,
    CorsOrigins,
    CreatedAt,
    ExpiresAt,
    EndsAt,
    RevokedAt,
}

fn table() -> TableCreateStatement {
    use UploadTokens as T;
    Table::create()
        .table(T::Table)
        .col(ColumnDef::new(T::Id).uuid().not_null().primary_key())
        // The SHA-256 of the secret, in hex.
        .col(ColumnDef::new(T::Hash).text().not_null())
        .col(ColumnDef::new(T::Owner).text().not_null())
        .col(ColumnDef::new(T::Policy).text().not_null())
        .col(ColumnDef::new(T::MaxUploads).big_integer())
        // The number of uploads that it has created.
        .col(ColumnDef::new(T::Uploads).big_integer().not_null())
        .col(ColumnDef::new(T::MaxSize).big_integer())
        .col(ColumnDef::new(T::AttachTo).text())
        .col(ColumnDef::new(T::Metadata).json().not_null())
        // A JSON list.
        .col(ColumnDef::new(T::CorsOrigins).json().not_null())
        .col(ColumnDef::new(T::CreatedAt).timestamp_with_time_zone().not_null())
        // From this time on it creates no uploads.
        .col(ColumnDef::new(T::ExpiresAt).timestamp_with_time_zone().not_null())
        // From this time on it is refused, because the deadlines of its uploads have passed.
        .col(ColumnDef::new(T::EndsAt).timestamp_with_time_zone().not_null())
        .col(ColumnDef::new(T::RevokedAt).timestamp_with_time_zone())
        .to_owned()
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::online::bound_lock_wait(manager.get_connection()).await?;
        manager.create_table(table()).await?;
        for statement in [
            "CREATE INDEX ix_upload_tokens_owner ON upload_tokens (owner, created_at, id)",
            // Used to delete old tokens.
            "CREATE INDEX ix_upload_tokens_ends ON upload_tokens (ends_at)",
            "ALTER TABLE uploads ADD COLUMN upload_token_id uuid",
            // The largest size that the token allows, in bytes.
            "ALTER TABLE uploads ADD COLUMN max_size bigint",
            "CREATE INDEX ix_uploads_token ON uploads (upload_token_id, created_at, id) \
             WHERE upload_token_id IS NOT NULL",
        ] {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in [
            "DROP INDEX ix_uploads_token",
            "ALTER TABLE uploads DROP COLUMN max_size",
            "ALTER TABLE uploads DROP COLUMN upload_token_id",
            "DROP TABLE upload_tokens",
        ] {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
