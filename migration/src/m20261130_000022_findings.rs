//! One row for each object and kind of finding, with the runs that saw it first and last. Before
//! this migration, each audit inserted all its findings again.

use sea_orm_migration::prelude::*;

use crate::columns::bytewise;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum Findings {
    Table,
    Kind,
    Policy,
    Key,
    UploadId,
    Size,
    Detail,
    FirstRun,
    FirstSeenAt,
    LastRun,
    LastAudit,
    LastSeenAt,
}

#[derive(DeriveIden)]
enum ReconcileFindings {
    Table,
    RunId,
    Number,
    Kind,
    Policy,
    Key,
    UploadId,
    Size,
    Detail,
    FoundAt,
}

#[derive(DeriveIden)]
enum ReconcileRuns {
    Table,
    Id,
}

fn findings(manager: &SchemaManager<'_>) -> TableCreateStatement {
    use Findings as F;
    Table::create()
        .table(F::Table)
        .col(ColumnDef::new(F::Kind).text().not_null())
        .col(ColumnDef::new(F::Policy).text().not_null())
        .col(bytewise(manager, F::Key).not_null())
        .col(ColumnDef::new(F::UploadId).uuid())
        .col(ColumnDef::new(F::Size).big_integer())
        .col(ColumnDef::new(F::Detail).text())
        // No foreign keys: a finding may stay longer than the run that saw it first.
        .col(ColumnDef::new(F::FirstRun).uuid().not_null())
        .col(ColumnDef::new(F::FirstSeenAt).timestamp_with_time_zone().not_null())
        .col(ColumnDef::new(F::LastRun).uuid().not_null())
        // The last audit that saw the finding. `last_run` may be an incremental run.
        .col(ColumnDef::new(F::LastAudit).uuid())
        .col(ColumnDef::new(F::LastSeenAt).timestamp_with_time_zone().not_null())
        .primary_key(Index::create().col(F::Kind).col(F::Policy).col(F::Key))
        .to_owned()
}

/// The table before this migration.
fn run_findings(manager: &SchemaManager<'_>) -> TableCreateStatement {
    use ReconcileFindings as F;
    Table::create()
        .table(F::Table)
        .col(ColumnDef::new(F::RunId).uuid().not_null())
        .col(ColumnDef::new(F::Number).big_integer().not_null())
        .col(ColumnDef::new(F::Kind).text().not_null())
        .col(ColumnDef::new(F::Policy).text().not_null())
        .col(bytewise(manager, F::Key).not_null())
        .col(ColumnDef::new(F::UploadId).uuid())
        .col(ColumnDef::new(F::Size).big_integer())
        .col(ColumnDef::new(F::Detail).text())
        .col(ColumnDef::new(F::FoundAt).timestamp_with_time_zone().not_null())
        .primary_key(Index::create().col(F::RunId).col(F::Number))
        .foreign_key(
            ForeignKey::create()
                .name("fk_findings_run")
                .from(F::Table, F::RunId)
                .to(ReconcileRuns::Table, ReconcileRuns::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

/// The newest finding of each object and kind, with the time of the oldest one.
const MERGE: &str = "INSERT INTO findings (kind, policy, key, upload_id, size, detail, first_run, \
     first_seen_at, last_run, last_audit, last_seen_at) \
     SELECT kind, policy, key, upload_id, size, detail, first_run, first_seen_at, run_id, \
     last_audit, found_at FROM ( \
         SELECT f.*, \
         FIRST_VALUE(f.run_id) OVER oldest AS first_run, \
         FIRST_VALUE(f.found_at) OVER oldest AS first_seen_at, \
         FIRST_VALUE(CASE WHEN r.mode = 'audit' THEN f.run_id END) OVER ( \
             PARTITION BY f.kind, f.policy, f.key \
             ORDER BY CASE WHEN r.mode = 'audit' THEN 0 ELSE 1 END, f.found_at DESC, f.run_id DESC \
         ) AS last_audit, \
         ROW_NUMBER() OVER (PARTITION BY f.kind, f.policy, f.key \
             ORDER BY f.found_at DESC, f.run_id DESC, f.number DESC) AS place \
         FROM reconcile_findings f JOIN reconcile_runs r ON r.id = f.run_id \
         WINDOW oldest AS (PARTITION BY f.kind, f.policy, f.key \
             ORDER BY f.found_at, f.run_id, f.number) ) AS ranked WHERE place = 1";

/// Each finding for the run that saw it last. The old table cannot contain findings of deleted
/// runs.
const SPLIT: &str = "INSERT INTO reconcile_findings (run_id, number, kind, policy, key, upload_id, \
     size, detail, found_at) \
     SELECT last_run, ROW_NUMBER() OVER (PARTITION BY last_run ORDER BY kind, policy, key), \
     kind, policy, key, upload_id, size, detail, last_seen_at FROM findings \
     WHERE last_run IN (SELECT id FROM reconcile_runs)";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        manager.create_table(findings(manager)).await?;
        connection.execute_unprepared(MERGE).await?;
        let index = "CREATE INDEX ix_findings_seen ON findings (last_seen_at)";
        connection.execute_unprepared(index).await?;
        manager.drop_table(Table::drop().table(ReconcileFindings::Table).to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        manager.create_table(run_findings(manager)).await?;
        connection.execute_unprepared(SPLIT).await?;
        let index = "CREATE INDEX ix_findings_kind ON reconcile_findings (run_id, kind, number)";
        connection.execute_unprepared(index).await?;
        manager.drop_table(Table::drop().table(Findings::Table).to_owned()).await
    }
}
