//! The index over uploads that may still change, by shard. With the shard in the index, 16 shards
//! read these uploads once and not 16 times. Pending rows are omitted, because they have their own
//! index. Policy, state and shard are one expression. With three columns, the planner may use only
//! two of them, and for verified uploads that is nearly the whole table.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The last digit of a key is the digit of its shard.
const BY_SHARD: &str = "CREATE INDEX ix_uploads_window ON uploads \
    ((policy || ' ' || status || ' ' || substr(key, length(key))), url_expires_at) \
    WHERE status <> 'pending'";
const BY_TIME: &str = "CREATE INDEX ix_uploads_window ON uploads (policy, status, url_expires_at)";

async fn exchange(manager: &SchemaManager<'_>, create: &str) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    connection.execute_unprepared("DROP INDEX ix_uploads_window").await?;
    connection.execute_unprepared(create).await?;
    Ok(())
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        exchange(manager, BY_SHARD).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        exchange(manager, BY_TIME).await
    }
}
