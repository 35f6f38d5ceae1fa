//! Runs that continue in another process: the shards of a run, each with a cursor and a lease;
//! uploads whose object may be missing; one run for each time of the schedule; and indexes over
//! uploads that a run may still change.

use sea_orm_migration::prelude::*;

use crate::columns::bytewise;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum ReconcileRuns {
    Table,
    Id,
    Mode,
    ScheduledFor,
    Deletions,
}

#[derive(DeriveIden)]
enum ReconcileLocks {
    Table,
    Fence,
    ExpiresAt,
}

#[derive(DeriveIden)]
enum ReconcileShards {
    Table,
    RunId,
    Number,
    Policy,
    Closing,
    Prefix,
    After,
    Until,
    Stage,
    Cursor,
    Status,
    Error,
    Counters,
    Findings,
    Holder,
    Fence,
    ExpiresAt,
}

#[derive(DeriveIden)]
enum ReconcileSuspects {
    Table,
    RunId,
    Policy,
    Kind,
    UploadId,
}

#[derive(DeriveIden)]
enum Uploads {
    Table,
    Policy,
    Status,
    UrlExpiresAt,
}

fn shards(manager: &SchemaManager<'_>) -> TableCreateStatement {
    use ReconcileShards as S;
    Table::create()
        .table(S::Table)
        .col(ColumnDef::new(S::RunId).uuid().not_null())
        .col(ColumnDef::new(S::Number).integer().not_null())
        .col(ColumnDef::new(S::Policy).text().not_null())
        // Whether it is the finalizing shard, which waits for the other shards of its policy.
        .col(ColumnDef::new(S::Closing).boolean().not_null())
        // The range of keys to compare. A shard whose prefix is NULL compares no keys.
        .col(ColumnDef::new(S::Prefix).text())
        .col(bytewise(manager, S::After))
        .col(bytewise(manager, S::Until))
        .col(ColumnDef::new(S::Stage).text().not_null())
        // The key up to which the stage is done.
        .col(ColumnDef::new(S::Cursor).text())
        .col(ColumnDef::new(S::Status).text().not_null())
        .col(ColumnDef::new(S::Error).text())
        .col(ColumnDef::new(S::Counters).json().not_null())
        .col(ColumnDef::new(S::Findings).big_integer().not_null())
        .col(ColumnDef::new(S::Holder).uuid())
        // Incremented by each claim. A process with an older value can't write.
        .col(ColumnDef::new(S::Fence).big_integer().not_null())
        .col(ColumnDef::new(S::ExpiresAt).timestamp_with_time_zone().not_null())
        .primary_key(Index::create().col(S::RunId).col(S::Number))
        .foreign_key(
            ForeignKey::create()
                .name("fk_shards_run")
                .from(S::Table, S::RunId)
                .to(ReconcileRuns::Table, ReconcileRuns::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

fn suspects() -> TableCreateStatement {
    use ReconcileSuspects as S;
    Table::create()
        .table(S::Table)
        .col(ColumnDef::new(S::RunId).uuid().not_null())
        .col(ColumnDef::new(S::Policy).text().not_null())
        .col(ColumnDef::new(S::Kind).text().not_null())
        .col(ColumnDef::new(S::UploadId).uuid().not_null())
        .primary_key(Index::create().col(S::RunId).col(S::Policy).col(S::Kind).col(S::UploadId))
        .foreign_key(
            ForeignKey::create()
                .name("fk_suspects_run")
                .from(S::Table, S::RunId)
                .to(ReconcileRuns::Table, ReconcileRuns::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

fn alter_runs() -> [TableAlterStatement; 2] {
    // The time of the schedule. NULL means that no schedule started the run.
    let scheduled = ColumnDef::new(ReconcileRuns::ScheduledFor).timestamp_with_time_zone().take();
    // The number of deletions that were taken from the run's budget.
    let deletions =
        ColumnDef::new(ReconcileRuns::Deletions).big_integer().not_null().default(0).take();
    [scheduled, deletions]
        .map(|column| Table::alter().table(ReconcileRuns::Table).add_column(column).take())
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        // Without shards, no process can continue these runs.
        connection
            .execute_unprepared(
                "UPDATE reconcile_runs SET status = 'failed', finished_at = started_at, \
                 error = 'the service was brought up to date meanwhile' WHERE status = 'running'",
            )
            .await?;
        for alter in alter_runs() {
            manager.alter_table(alter).await?;
        }
        manager
            .create_index(
                Index::create()
                    .name("ux_runs_scheduled")
                    .table(ReconcileRuns::Table)
                    .col(ReconcileRuns::Mode)
                    .col(ReconcileRuns::ScheduledFor)
                    .unique()
                    .take(),
            )
            .await?;
        // A lock is held while its run is running. The leases are in the shards.
        for column in [ReconcileLocks::Fence, ReconcileLocks::ExpiresAt] {
            let drop = Table::alter().table(ReconcileLocks::Table).drop_column(column).take();
            manager.alter_table(drop).await?;
        }
        manager.create_table(shards(manager)).await?;
        manager.create_table(suspects()).await?;
        for index in [
            // Every process reads this once a second.
            "CREATE INDEX ix_runs_running ON reconcile_runs (id) WHERE status = 'running'",
            "CREATE INDEX ix_uploads_pending ON uploads (policy, key) WHERE status = 'pending'",
            "CREATE INDEX ix_uploads_due ON uploads (policy, object_delete_after, id) \
             WHERE object_deleted_at IS NULL AND object_delete_after IS NOT NULL",
        ] {
            connection.execute_unprepared(index).await?;
        }
        manager
            .create_index(
                Index::create()
                    .name("ix_uploads_window")
                    .table(Uploads::Table)
                    .col(Uploads::Policy)
                    .col(Uploads::Status)
                    .col(Uploads::UrlExpiresAt)
                    .take(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, table) in [
            ("ix_uploads_window", Uploads::Table.into_table_ref()),
            ("ix_uploads_due", Uploads::Table.into_table_ref()),
            ("ix_uploads_pending", Uploads::Table.into_table_ref()),
            ("ix_runs_running", ReconcileRuns::Table.into_table_ref()),
            ("ux_runs_scheduled", ReconcileRuns::Table.into_table_ref()),
        ] {
            manager.drop_index(Index::drop().name(name).table(table).to_owned()).await?;
        }
        manager.drop_table(Table::drop().table(ReconcileSuspects::Table).take()).await?;
        manager.drop_table(Table::drop().table(ReconcileShards::Table).take()).await?;
        let fence =
            ColumnDef::new(ReconcileLocks::Fence).big_integer().not_null().default(0).take();
        let mut expires = ColumnDef::new(ReconcileLocks::ExpiresAt);
        expires.timestamp_with_time_zone().not_null().default("2000-01-01 00:00:00+00:00");
        for column in [fence, expires] {
            let add = Table::alter().table(ReconcileLocks::Table).add_column(column).take();
            manager.alter_table(add).await?;
        }
        for column in [ReconcileRuns::ScheduledFor, ReconcileRuns::Deletions] {
            let drop = Table::alter().table(ReconcileRuns::Table).drop_column(column).take();
            manager.alter_table(drop).await?;
        }
        Ok(())
    }
}
