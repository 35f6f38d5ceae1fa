//! Outgoing webhooks: the outbox, one row for each change and endpoint.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum WebhookDeliveries {
    Table,
    Id,
    Endpoint,
    UploadId,
    Version,
    Event,
    Payload,
    Status,
    Attempts,
    NextAttemptAt,
    GiveUpAt,
    Error,
    CreatedAt,
    DeliveredAt,
}

fn deliveries() -> TableCreateStatement {
    use WebhookDeliveries as D;
    Table::create()
        .table(D::Table)
        .col(ColumnDef::new(D::Id).uuid().not_null().primary_key())
        .col(ColumnDef::new(D::Endpoint).text().not_null())
        // No foreign key: the deliveries of an upload remain longer than its row.
        .col(ColumnDef::new(D::UploadId).uuid().not_null())
        // The version of the upload after the change. It is the order of the upload's deliveries.
        .col(ColumnDef::new(D::Version).big_integer().not_null())
        .col(ColumnDef::new(D::Event).text().not_null())
        // The exact body that is signed and sent.
        .col(ColumnDef::new(D::Payload).text().not_null())
        .col(ColumnDef::new(D::Status).text().not_null())
        .col(ColumnDef::new(D::Attempts).integer().not_null())
        // During an attempt, this is the time after which another process may claim the delivery.
        .col(ColumnDef::new(D::NextAttemptAt).timestamp_with_time_zone().not_null())
        .col(ColumnDef::new(D::GiveUpAt).timestamp_with_time_zone().not_null())
        .col(ColumnDef::new(D::Error).text())
        .col(ColumnDef::new(D::CreatedAt).timestamp_with_time_zone().not_null())
        .col(ColumnDef::new(D::DeliveredAt).timestamp_with_time_zone())
        .to_owned()
}

fn index<const N: usize>(name: &str, columns: [WebhookDeliveries; N]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(name).table(WebhookDeliveries::Table);
    for column in columns {
        index.col(column);
    }
    index
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use WebhookDeliveries as D;
        manager.create_table(deliveries()).await?;
        let due = [D::Endpoint, D::Status, D::NextAttemptAt];
        manager.create_index(index("ix_deliveries_due", due)).await?;
        let order = [D::UploadId, D::Endpoint, D::Version];
        manager.create_index(index("ix_deliveries_order", order)).await?;
        manager.create_index(index("ix_deliveries_created", [D::CreatedAt, D::Id])).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(WebhookDeliveries::Table).to_owned()).await
    }
}
