//! The only migration of the sample, which creates its table. No column of the table refers to
//! uploads.

use async_trait::async_trait;
use migration::MigratorTrait;
use migration::sea_orm_migration::prelude::*;

pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Episodes)]
    }

    /// The table of applied migrations. It is not that of the service.
    fn migration_table_name() -> DynIden {
        "sample_migrations".into_iden()
    }
}

struct Episodes;

impl MigrationName for Episodes {
    fn name(&self) -> &'static str {
        "m20261130_000001_episodes"
    }
}

#[async_trait]
impl MigrationTrait for Episodes {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("episodes")
            .col(ColumnDef::new("id").uuid().not_null().primary_key())
            .col(ColumnDef::new("owner").text().not_null())
            .col(ColumnDef::new("title").text().not_null())
            .to_owned();
        manager.create_table(table).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("episodes").to_owned()).await
    }
}
