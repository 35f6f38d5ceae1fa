//! Attachments: the file of any kind of record. Tracks become one kind of record.
//!
//! The service must be stopped during this migration. The column `uploads.track_id` remains and is
//! empty: `SQLite` cannot drop a column with a foreign key without copying the table.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

use crate::columns::bytewise;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum Attachments {
    Table,
    Id,
    Owner,
    Subject,
    Status,
    NextSequence,
    LatestUploadId,
    CurrentUploadId,
    CurrentSequence,
    Version,
    CreatedAt,
    UpdatedAt,
}

#[derive(DeriveIden)]
enum UnattachedRetention {
    Table,
    Policy,
    EnabledAt,
}

/// The number of rows that one statement changes.
const BATCH: u32 = 10_000;

fn table(manager: &SchemaManager<'_>) -> TableCreateStatement {
    Table::create()
        .table(Attachments::Table)
        .col(ColumnDef::new(Attachments::Id).uuid().not_null().primary_key())
        .col(ColumnDef::new(Attachments::Owner).text().not_null())
        .col(bytewise(manager, Attachments::Subject).not_null())
        // The status of the newest upload, or `empty`.
        .col(ColumnDef::new(Attachments::Status).text().not_null())
        // The number of the next upload of this subject. A larger number is newer.
        .col(ColumnDef::new(Attachments::NextSequence).big_integer().not_null())
        .col(ColumnDef::new(Attachments::LatestUploadId).uuid())
        // The upload that is served.
        .col(ColumnDef::new(Attachments::CurrentUploadId).uuid())
        .col(ColumnDef::new(Attachments::CurrentSequence).big_integer())
        .col(ColumnDef::new(Attachments::Version).big_integer().not_null())
        .col(ColumnDef::new(Attachments::CreatedAt).timestamp_with_time_zone().not_null())
        .col(ColumnDef::new(Attachments::UpdatedAt).timestamp_with_time_zone().not_null())
        .to_owned()
}

/// The time since when each policy removes uploads that are not attached.
fn retention() -> TableCreateStatement {
    Table::create()
        .table(UnattachedRetention::Table)
        .col(ColumnDef::new(UnattachedRetention::Policy).text().not_null().primary_key())
        .col(ColumnDef::new(UnattachedRetention::EnabledAt).timestamp_with_time_zone().not_null())
        .to_owned()
}

/// A UUID column as text in lower case with hyphens.
fn text_of(column: &str, backend: DbBackend) -> String {
    if backend == DbBackend::Postgres {
        return format!("{column}::text");
    }
    let part = |from: u8, len: u8| format!("substr(hex({column}), {from}, {len})");
    let parts = [part(1, 8), part(9, 4), part(13, 4), part(17, 4), part(21, 12)];
    format!("lower({})", parts.join(" || '-' || "))
}

/// The UUID after `track:` in the text of `column`.
fn track_of(column: &str, backend: DbBackend) -> String {
    if backend == DbBackend::Postgres {
        format!("substr({column}, 7)::uuid")
    } else {
        format!("unhex(replace(substr({column}, 7), '-', ''))")
    }
}

/// Runs a statement until it changes no more rows.
async fn in_batches(manager: &SchemaManager<'_>, statement: &str) -> Result<(), DbErr> {
    while manager.get_connection().execute_unprepared(statement).await?.rows_affected() > 0 {}
    Ok(())
}

async fn each(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    for statement in statements {
        manager.get_connection().execute_unprepared(statement).await?;
    }
    Ok(())
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        manager.create_table(table(manager)).await?;
        manager.create_table(retention()).await?;
        each(
            manager,
            &[
                "CREATE UNIQUE INDEX ix_attachments_subject ON attachments (owner, subject)",
                // Used by the deletion of old rows, which keeps the newest upload of each subject.
                "CREATE INDEX ix_attachments_latest ON attachments (latest_upload_id)",
                "ALTER TABLE uploads ADD COLUMN attach_to text",
                "ALTER TABLE uploads RENAME COLUMN track_sequence TO attach_sequence",
            ],
        )
        .await?;
        // An attachment that replaces a track's columns has the track's id. A track without uploads
        // gets no attachment.
        let subject = text_of("id", backend);
        in_batches(
            manager,
            &format!(
                "INSERT INTO attachments (id, owner, subject, status, next_sequence, \
                 latest_upload_id, current_upload_id, current_sequence, version, created_at, \
                 updated_at) SELECT id, owner, 'track:' || {subject}, status, next_sequence, \
                 latest_upload_id, bound_upload_id, bound_sequence, 1, created_at, updated_at \
                 FROM tracks WHERE next_sequence > 1 \
                 AND NOT EXISTS (SELECT 1 FROM attachments a WHERE a.id = tracks.id) LIMIT {BATCH}"
            ),
        )
        .await?;
        let subject = text_of("track_id", backend);
        in_batches(
            manager,
            &format!(
                "UPDATE uploads SET attach_to = 'track:' || {subject}, track_id = NULL \
                 WHERE id IN (SELECT id FROM uploads WHERE track_id IS NOT NULL LIMIT {BATCH})"
            ),
        )
        .await?;
        each(
            manager,
            &[
                "DROP INDEX ix_uploads_track",
                "CREATE INDEX ix_uploads_attach_to ON uploads (owner, attach_to, created_at, id) \
                 WHERE attach_to IS NOT NULL",
                // Verified uploads that are not attached, by age.
                "CREATE INDEX ix_uploads_unattached ON uploads (policy, uploaded_at, id) \
                 WHERE attach_to IS NULL AND status = 'uploaded'",
                "ALTER TABLE tracks DROP COLUMN next_sequence",
                "ALTER TABLE tracks DROP COLUMN bound_sequence",
            ],
        )
        .await
    }

    /// Attachments of tracks become tracks' files again. Other uploads lose their subject.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        let track = track_of("attach_to", backend);
        each(
            manager,
            &[
                "ALTER TABLE tracks ADD COLUMN next_sequence bigint NOT NULL DEFAULT 1",
                "ALTER TABLE tracks ADD COLUMN bound_sequence bigint",
                "DROP INDEX ix_uploads_attach_to",
                "DROP INDEX ix_uploads_unattached",
                "CREATE INDEX ix_uploads_track ON uploads (track_id, created_at, id) \
                 WHERE track_id IS NOT NULL",
            ],
        )
        .await?;
        // A subject may remain longer than its track. Its uploads then belong to no track.
        in_batches(
            manager,
            &format!(
                "UPDATE uploads SET attach_to = NULL, \
                 track_id = (SELECT t.id FROM tracks t WHERE t.id = {track}) \
                 WHERE id IN (SELECT id FROM uploads WHERE attach_to LIKE 'track:%' LIMIT {BATCH})"
            ),
        )
        .await?;
        let track = track_of("a.subject", backend);
        each(
            manager,
            &[
                &format!(
                    "UPDATE tracks SET next_sequence = a.next_sequence, \
                     bound_sequence = a.current_sequence FROM attachments a \
                     WHERE a.subject LIKE 'track:%' AND tracks.id = {track}"
                ),
                "UPDATE uploads SET attach_sequence = NULL WHERE track_id IS NULL",
                "ALTER TABLE uploads RENAME COLUMN attach_sequence TO track_sequence",
                "ALTER TABLE uploads DROP COLUMN attach_to",
                "DROP TABLE attachments",
                "DROP TABLE unattached_retention",
            ],
        )
        .await
    }
}
