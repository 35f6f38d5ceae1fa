//! Indexes for later states contain only rows in these states, so that a new upload writes fewer
//! pages.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The name, the columns, and the condition of its rows.
const LEAN: [(&str, &str, &str); 2] = [
    ("ix_uploads_track", "track_id, created_at, id", "track_id IS NOT NULL"),
    ("ix_uploads_deletion", "object_deleted_at", "object_deleted_at IS NOT NULL"),
];
const FULL: [(&str, &str); 2] = [
    ("ix_uploads_track", "track_id, created_at, id"),
    ("ix_uploads_deletion", "object_deleted_at, object_delete_after"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        for (name, columns, rows) in LEAN {
            connection.execute_unprepared(&format!("DROP INDEX {name}")).await?;
            let create = format!("CREATE INDEX {name} ON uploads ({columns}) WHERE {rows}");
            connection.execute_unprepared(&create).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        for (name, columns) in FULL {
            connection.execute_unprepared(&format!("DROP INDEX {name}")).await?;
            let create = format!("CREATE INDEX {name} ON uploads ({columns})");
            connection.execute_unprepared(&create).await?;
        }
        Ok(())
    }
}
