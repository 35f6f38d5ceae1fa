//! Multipart uploads that are to be aborted, and indexes for statistics: ended deliveries by age,
//! uploads by state, runs by result.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum MultipartAborts {
    Table,
    UploadId,
    MultipartId,
    Policy,
    Key,
    Attempts,
    NextAttemptAt,
    CreatedAt,
}

#[derive(DeriveIden)]
enum WebhookDeliveries {
    Table,
    Status,
    NextAttemptAt,
}

#[derive(DeriveIden)]
enum Uploads {
    Table,
    Status,
    Policy,
    CreatedAt,
    UploadedAt,
}

#[derive(DeriveIden)]
enum ReconcileRuns {
    Table,
    Mode,
    Status,
    StartedAt,
}

fn aborts() -> TableCreateStatement {
    use MultipartAborts as A;
    Table::create()
        .table(A::Table)
        // No foreign key: the record may remain longer than the upload's row.
        .col(ColumnDef::new(A::UploadId).uuid().not_null())
        // The store's id of the multipart upload. `?` and a token mean that the store may have
        // created it, but its response with the id was not received. In that case, every multipart
        // upload at the key is aborted, except those whose id is in a row.
        .col(ColumnDef::new(A::MultipartId).text().not_null())
        .col(ColumnDef::new(A::Policy).text().not_null())
        .col(ColumnDef::new(A::Key).text().not_null())
        .col(ColumnDef::new(A::Attempts).integer().not_null())
        .col(ColumnDef::new(A::NextAttemptAt).timestamp_with_time_zone().not_null())
        .col(ColumnDef::new(A::CreatedAt).timestamp_with_time_zone().not_null())
        .primary_key(Index::create().col(A::UploadId).col(A::MultipartId))
        .to_owned()
}

fn index<I: IntoIden, const N: usize>(
    table: impl IntoTableRef,
    name: &str,
    columns: [I; N],
) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(name).table(table);
    for column in columns {
        index.col(column.into_iden());
    }
    index
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use MultipartAborts as A;
        use ReconcileRuns as R;
        use Uploads as U;
        use WebhookDeliveries as D;
        manager.create_table(aborts()).await?;
        for index in [
            index(A::Table, "ix_multipart_aborts_due", [A::Policy, A::NextAttemptAt]),
            // `next_attempt_at` of a delivery that has ended is about the time when it ended.
            index(D::Table, "ix_deliveries_ended", [D::Status, D::NextAttemptAt]),
            // Counts by state and policy read only this index. The oldest upload of a state and
            // policy is the first entry.
            index(
                U::Table,
                "ix_uploads_stats",
                [U::Status, U::Policy, U::CreatedAt, U::UploadedAt],
            ),
            index(R::Table, "ix_runs_outcome", [R::Mode, R::Status, R::StartedAt]),
        ] {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, table) in [
            ("ix_runs_outcome", ReconcileRuns::Table.into_table_ref()),
            ("ix_uploads_stats", Uploads::Table.into_table_ref()),
            ("ix_deliveries_ended", WebhookDeliveries::Table.into_table_ref()),
        ] {
            manager.drop_index(Index::drop().name(name).table(table).to_owned()).await?;
        }
        manager.drop_table(Table::drop().table(MultipartAborts::Table).to_owned()).await
    }
}
