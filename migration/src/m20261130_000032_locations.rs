//! The locations of each policy's objects (store, bucket and prefix), and the location of each
//! upload.
//!
//! Rows that exist, and rows that the previous version inserts, belong to location 0 of their
//! policy. The service adds the locations when it starts, because only its configuration knows
//! them.

use sea_orm_migration::prelude::*;

use crate::online;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The tables with a number of a location.
const TABLES: [&str; 3] = ["uploads", "reconcile_shards", "multipart_aborts"];

#[derive(DeriveIden)]
enum Locations {
    Table,
    Policy,
    Number,
    Store,
    Bucket,
    Prefix,
    CreatedAt,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use Locations as L;
        let connection = manager.get_connection();
        online::bound_lock_wait(connection).await?;
        let table = Table::create()
            .table(L::Table)
            .col(ColumnDef::new(L::Policy).text().not_null())
            // Counts from 0 for each policy. Never changes, because rows of uploads contain it.
            .col(ColumnDef::new(L::Number).integer().not_null())
            // The name of the store in the configuration.
            .col(ColumnDef::new(L::Store).text().not_null())
            .col(ColumnDef::new(L::Bucket).text().not_null())
            .col(ColumnDef::new(L::Prefix).text().not_null())
            .col(ColumnDef::new(L::CreatedAt).timestamp_with_time_zone().not_null())
            .primary_key(Index::create().col(L::Policy).col(L::Number))
            .to_owned();
        manager.create_table(table).await?;
        let index = Index::create()
            .name("ix_locations_place")
            .table(L::Table)
            .col(L::Policy)
            .col(L::Store)
            .col(L::Bucket)
            .col(L::Prefix)
            .unique()
            .to_owned();
        manager.create_index(index).await?;
        for table in TABLES {
            let add = format!("ALTER TABLE {table} ADD COLUMN location integer NOT NULL DEFAULT 0");
            connection.execute_unprepared(&add).await?;
        }
        Ok(())
    }

    /// The previous version looks for all objects of a policy in one location, so this is refused
    /// if the uploads of a policy are in several.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let scattered = Query::select()
            .column(Alias::new("policy"))
            .from(Alias::new("uploads"))
            .add_group_by([Expr::col(Alias::new("policy"))])
            .and_having(Expr::cust("COUNT(DISTINCT location) > 1"))
            .take();
        if let Some(row) = connection.query_one(&scattered).await? {
            let policy: String = row.try_get_by_index(0)?;
            return Err(DbErr::Custom(format!(
                "the uploads of policy `{policy}` are in several locations, but the previous version \
                 supports only one: move them to one location first"
            )));
        }
        online::bound_lock_wait(connection).await?;
        for table in TABLES {
            let drop_column = format!("ALTER TABLE {table} DROP COLUMN location");
            connection.execute_unprepared(&drop_column).await?;
        }
        manager.drop_table(Table::drop().table(Locations::Table).to_owned()).await
    }
}
