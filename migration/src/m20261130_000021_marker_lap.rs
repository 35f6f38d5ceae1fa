//! Laps of markers. A lap is a random id in a marker, which runs replace: it shows whether a copy
//! of the database also writes the marker. New are the laps in the record of each marker, the name
//! of its store (two stores may have buckets with the same name), the location of the database, and
//! the id that the database had before it was reissued.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum Instance {
    Table,
    Home,
    FormerUuid,
}

#[derive(DeriveIden)]
enum Markers {
    Table,
    Store,
    Bucket,
    Prefix,
    WrittenAt,
    Lap,
    NextLap,
    LapAt,
    MovedAt,
    ContestedAt,
}

/// The new table, to which the rows are copied. It is then renamed to `markers`.
#[derive(DeriveIden)]
enum NewMarkers {
    Table,
}

async fn replace(
    manager: &SchemaManager<'_>,
    table: TableCreateStatement,
    copy: &str,
) -> Result<(), DbErr> {
    manager.create_table(table).await?;
    manager.get_connection().execute_unprepared(copy).await?;
    manager.drop_table(Table::drop().table(Markers::Table).to_owned()).await?;
    let rename = Table::rename().table(NewMarkers::Table, Markers::Table).to_owned();
    manager.rename_table(rename).await
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // One column per statement, as SQLite requires.
        for column in [
            // The location of the database. A copy has another location.
            ColumnDef::new(Instance::Home).text().take(),
            // The id before `instance reissue`.
            ColumnDef::new(Instance::FormerUuid).uuid().take(),
        ] {
            let mut column = column;
            let alter = Table::alter().table(Instance::Table).add_column(&mut column).to_owned();
            manager.alter_table(alter).await?;
        }
        let markers = Table::create()
            .table(NewMarkers::Table)
            // Empty in the rows of a version that did not record the name.
            .col(ColumnDef::new(Markers::Store).text().not_null())
            .col(ColumnDef::new(Markers::Bucket).text().not_null())
            .col(ColumnDef::new(Markers::Prefix).text().not_null())
            // NULL: the first marker may not be written yet.
            .col(ColumnDef::new(Markers::WrittenAt).timestamp_with_time_zone())
            // The lap in the marker.
            .col(ColumnDef::new(Markers::Lap).uuid())
            // The lap that a process is writing.
            .col(ColumnDef::new(Markers::NextLap).uuid())
            .col(ColumnDef::new(Markers::LapAt).timestamp_with_time_zone())
            // When the database moved to another location. NULL again after a later lap has
            // remained unchanged for some time.
            .col(ColumnDef::new(Markers::MovedAt).timestamp_with_time_zone())
            // When another database with the same id was noticed.
            .col(ColumnDef::new(Markers::ContestedAt).timestamp_with_time_zone())
            .primary_key(
                Index::create()
                    .name("pk_markers_store")
                    .col(Markers::Store)
                    .col(Markers::Bucket)
                    .col(Markers::Prefix),
            )
            .to_owned();
        let copy = "INSERT INTO new_markers (store, bucket, prefix, written_at) \
             SELECT '', bucket, prefix, written_at FROM markers";
        replace(manager, markers, copy).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let markers = Table::create()
            .table(NewMarkers::Table)
            .col(ColumnDef::new(Markers::Bucket).text().not_null())
            .col(ColumnDef::new(Markers::Prefix).text().not_null())
            .col(ColumnDef::new(Markers::WrittenAt).timestamp_with_time_zone().not_null())
            .primary_key(
                Index::create().name("pk_markers_bucket").col(Markers::Bucket).col(Markers::Prefix),
            )
            .to_owned();
        let copy = "INSERT INTO new_markers (bucket, prefix, written_at) \
             SELECT bucket, prefix, min(written_at) FROM markers \
             WHERE written_at IS NOT NULL GROUP BY bucket, prefix";
        replace(manager, markers, copy).await?;
        for column in [Instance::Home, Instance::FormerUuid] {
            let alter = Table::alter().table(Instance::Table).drop_column(column).to_owned();
            manager.alter_table(alter).await?;
        }
        Ok(())
    }
}
