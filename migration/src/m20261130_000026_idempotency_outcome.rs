//! The additional result that a repeated batch request needs: which uploads were refused.

use sea_orm_migration::prelude::*;

use crate::online;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        online::bound_lock_wait(connection).await?;
        let add = "ALTER TABLE idempotency_keys ADD COLUMN outcome text";
        connection.execute_unprepared(add).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let drop_column = "ALTER TABLE idempotency_keys DROP COLUMN outcome";
        connection.execute_unprepared(drop_column).await.map(drop)
    }
}
