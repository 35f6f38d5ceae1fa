//! The level of the schema, by which a process decides whether it may run on this database. The
//! table has one row, which [`crate::level`] writes.

use sea_orm_migration::prelude::*;

use crate::level::{FIRST_LEVEL, Level, Schema};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut table = Table::create();
        table.table(Schema::Table);
        // The level of the newest version that has migrated this database.
        table.col(ColumnDef::new(Schema::Level).integer().not_null());
        // The lowest level of a version that can work with this database.
        table.col(ColumnDef::new(Schema::MinLevel).integer().not_null());
        manager.create_table(table).await?;
        let first = Level { level: FIRST_LEVEL, min_level: FIRST_LEVEL };
        let mut row = Query::insert();
        row.into_table(Schema::Table).columns([Schema::Level, Schema::MinLevel]);
        row.values_panic([first.level.into(), first.min_level.into()]);
        manager.execute(row).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(Schema::Table).to_owned()).await
    }
}
