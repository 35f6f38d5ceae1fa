//! The index over an owner's cancelled uploads, which count in its quota until their URL expires.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const CREATE: &str = "CREATE INDEX ix_uploads_cancelled ON uploads (owner, url_expires_at) \
    WHERE status = 'cancelled'";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(CREATE).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drop_index = "DROP INDEX ix_uploads_cancelled";
        manager.get_connection().execute_unprepared(drop_index).await.map(drop)
    }
}
