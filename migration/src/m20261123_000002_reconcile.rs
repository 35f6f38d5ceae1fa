//! Reconciliation: runs, their findings, and the lock of each mode and policy.

use sea_orm_migration::prelude::*;

use crate::columns::bytewise;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum ReconcileRuns {
    Table,
    Id,
    Mode,
    Policy,
    Trigger,
    DryRun,
    Forced,
    Status,
    CancelRequested,
    Counters,
    Error,
    StartedAt,
    FinishedAt,
}

#[derive(DeriveIden)]
enum ReconcileLocks {
    Table,
    Mode,
    Policy,
    RunId,
    Fence,
    ExpiresAt,
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

fn runs() -> TableCreateStatement {
    Table::create()
        .table(ReconcileRuns::Table)
        .col(ColumnDef::new(ReconcileRuns::Id).uuid().not_null().primary_key())
        .col(ColumnDef::new(ReconcileRuns::Mode).text().not_null())
        // NULL means every policy.
        .col(ColumnDef::new(ReconcileRuns::Policy).text())
        .col(ColumnDef::new(ReconcileRuns::Trigger).text().not_null())
        .col(ColumnDef::new(ReconcileRuns::DryRun).boolean().not_null())
        .col(ColumnDef::new(ReconcileRuns::Forced).boolean().not_null())
        .col(ColumnDef::new(ReconcileRuns::Status).text().not_null())
        .col(ColumnDef::new(ReconcileRuns::CancelRequested).boolean().not_null())
        .col(ColumnDef::new(ReconcileRuns::Counters).json().not_null())
        .col(ColumnDef::new(ReconcileRuns::Error).text())
        .col(ColumnDef::new(ReconcileRuns::StartedAt).timestamp_with_time_zone().not_null())
        .col(ColumnDef::new(ReconcileRuns::FinishedAt).timestamp_with_time_zone())
        .to_owned()
}

fn locks() -> TableCreateStatement {
    Table::create()
        .table(ReconcileLocks::Table)
        .col(ColumnDef::new(ReconcileLocks::Mode).text().not_null())
        .col(ColumnDef::new(ReconcileLocks::Policy).text().not_null())
        .col(ColumnDef::new(ReconcileLocks::RunId).uuid().not_null())
        // Incremented by each new holder, so that a holder that lost the lock can notice it.
        .col(ColumnDef::new(ReconcileLocks::Fence).big_integer().not_null())
        .col(ColumnDef::new(ReconcileLocks::ExpiresAt).timestamp_with_time_zone().not_null())
        .primary_key(Index::create().col(ReconcileLocks::Mode).col(ReconcileLocks::Policy))
        .to_owned()
}

fn findings(manager: &SchemaManager<'_>) -> TableCreateStatement {
    Table::create()
        .table(ReconcileFindings::Table)
        .col(ColumnDef::new(ReconcileFindings::RunId).uuid().not_null())
        .col(ColumnDef::new(ReconcileFindings::Number).big_integer().not_null())
        .col(ColumnDef::new(ReconcileFindings::Kind).text().not_null())
        .col(ColumnDef::new(ReconcileFindings::Policy).text().not_null())
        .col(bytewise(manager, ReconcileFindings::Key).not_null())
        .col(ColumnDef::new(ReconcileFindings::UploadId).uuid())
        .col(ColumnDef::new(ReconcileFindings::Size).big_integer())
        .col(ColumnDef::new(ReconcileFindings::Detail).text())
        .col(ColumnDef::new(ReconcileFindings::FoundAt).timestamp_with_time_zone().not_null())
        .primary_key(Index::create().col(ReconcileFindings::RunId).col(ReconcileFindings::Number))
        .foreign_key(
            ForeignKey::create()
                .name("fk_findings_run")
                .from(ReconcileFindings::Table, ReconcileFindings::RunId)
                .to(ReconcileRuns::Table, ReconcileRuns::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(runs()).await?;
        manager.create_table(locks()).await?;
        manager.create_table(findings(manager)).await?;
        manager
            .create_index(
                Index::create()
                    .name("ix_runs_started")
                    .table(ReconcileRuns::Table)
                    .col(ReconcileRuns::StartedAt)
                    .col(ReconcileRuns::Id)
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("ix_findings_kind")
                    .table(ReconcileFindings::Table)
                    .col(ReconcileFindings::RunId)
                    .col(ReconcileFindings::Kind)
                    .col(ReconcileFindings::Number)
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(ReconcileFindings::Table).to_owned()).await?;
        manager.drop_table(Table::drop().table(ReconcileLocks::Table).to_owned()).await?;
        manager.drop_table(Table::drop().table(ReconcileRuns::Table).to_owned()).await
    }
}
