//! Tracks, uploads, and the database's own identity.

use sea_orm_migration::prelude::*;

use crate::columns::bytewise;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum Instance {
    Table,
    Id,
    Uuid,
}

#[derive(DeriveIden)]
enum Markers {
    Table,
    Bucket,
    Prefix,
    WrittenAt,
}

#[derive(DeriveIden)]
enum Tracks {
    Table,
    Id,
    Owner,
    Title,
    ArtistName,
    ReleaseDate,
    TitleOrder,
    ArtistOrder,
    ReleaseOrder,
    Status,
    NextSequence,
    LatestUploadId,
    BoundUploadId,
    BoundSequence,
    Version,
    CreatedAt,
    UpdatedAt,
}

#[derive(DeriveIden)]
enum Uploads {
    Table,
    Id,
    Owner,
    Policy,
    TrackId,
    TrackSequence,
    Key,
    Filename,
    DeclaredContentType,
    DeclaredSize,
    DeclaredChecksumAlgorithm,
    DeclaredChecksum,
    Strategy,
    WriteOnce,
    Metadata,
    UrlExpiresAt,
    MultipartId,
    Status,
    Reason,
    ConfirmedBy,
    Late,
    Etag,
    VersionId,
    Size,
    ContentType,
    ChecksumAlgorithm,
    Checksum,
    UploadedAt,
    ObjectDeleteAfter,
    ObjectDeletedAt,
    Version,
    CreatedAt,
    UpdatedAt,
}

fn tracks(manager: &SchemaManager<'_>) -> TableCreateStatement {
    Table::create()
        .table(Tracks::Table)
        .col(ColumnDef::new(Tracks::Id).uuid().not_null().primary_key())
        .col(ColumnDef::new(Tracks::Owner).text().not_null())
        .col(ColumnDef::new(Tracks::Title).text().not_null())
        .col(ColumnDef::new(Tracks::ArtistName).text().not_null())
        .col(ColumnDef::new(Tracks::ReleaseDate).date())
        // Lower case, for search and sorting that ignore case.
        .col(bytewise(manager, Tracks::TitleOrder).not_null())
        .col(bytewise(manager, Tracks::ArtistOrder).not_null())
        // The release date, or the latest possible date, because a keyset cursor can't point to
        // NULL.
        .col(ColumnDef::new(Tracks::ReleaseOrder).date().not_null())
        // The status of the newest upload, or `empty`.
        .col(ColumnDef::new(Tracks::Status).text().not_null())
        // The number of the next upload of this track. A larger number is newer.
        .col(ColumnDef::new(Tracks::NextSequence).big_integer().not_null())
        .col(ColumnDef::new(Tracks::LatestUploadId).uuid())
        // The upload that is served.
        .col(ColumnDef::new(Tracks::BoundUploadId).uuid())
        .col(ColumnDef::new(Tracks::BoundSequence).big_integer())
        .col(ColumnDef::new(Tracks::Version).big_integer().not_null())
        .col(ColumnDef::new(Tracks::CreatedAt).timestamp_with_time_zone().not_null())
        .col(ColumnDef::new(Tracks::UpdatedAt).timestamp_with_time_zone().not_null())
        .to_owned()
}

fn uploads(manager: &SchemaManager<'_>) -> TableCreateStatement {
    Table::create()
        .table(Uploads::Table)
        .col(ColumnDef::new(Uploads::Id).uuid().not_null().primary_key())
        .col(ColumnDef::new(Uploads::Owner).text().not_null())
        .col(ColumnDef::new(Uploads::Policy).text().not_null())
        .col(ColumnDef::new(Uploads::TrackId).uuid())
        .col(ColumnDef::new(Uploads::TrackSequence).big_integer())
        // The whole key, so that a later change of the configuration renames nothing.
        .col(bytewise(manager, Uploads::Key).not_null())
        .col(ColumnDef::new(Uploads::Filename).text())
        .col(ColumnDef::new(Uploads::DeclaredContentType).text())
        .col(ColumnDef::new(Uploads::DeclaredSize).big_integer())
        .col(ColumnDef::new(Uploads::DeclaredChecksumAlgorithm).text())
        .col(ColumnDef::new(Uploads::DeclaredChecksum).text())
        .col(ColumnDef::new(Uploads::Strategy).text().not_null())
        .col(ColumnDef::new(Uploads::WriteOnce).boolean().not_null())
        .col(ColumnDef::new(Uploads::Metadata).json().not_null())
        // When the newest URL expires. The deadline is this time plus the policy's grace.
        .col(ColumnDef::new(Uploads::UrlExpiresAt).timestamp_with_time_zone().not_null())
        .col(ColumnDef::new(Uploads::MultipartId).text())
        .col(ColumnDef::new(Uploads::Status).text().not_null())
        .col(ColumnDef::new(Uploads::Reason).text())
        .col(ColumnDef::new(Uploads::ConfirmedBy).text())
        .col(ColumnDef::new(Uploads::Late).boolean().not_null())
        // From here to the checksum: the facts about the observed object.
        .col(ColumnDef::new(Uploads::Etag).text())
        .col(ColumnDef::new(Uploads::VersionId).text())
        .col(ColumnDef::new(Uploads::Size).big_integer())
        .col(ColumnDef::new(Uploads::ContentType).text())
        .col(ColumnDef::new(Uploads::ChecksumAlgorithm).text())
        .col(ColumnDef::new(Uploads::Checksum).text())
        .col(ColumnDef::new(Uploads::UploadedAt).timestamp_with_time_zone())
        .col(ColumnDef::new(Uploads::ObjectDeleteAfter).timestamp_with_time_zone())
        .col(ColumnDef::new(Uploads::ObjectDeletedAt).timestamp_with_time_zone())
        // Incremented by every write. Every write is guarded by the version that it read.
        .col(ColumnDef::new(Uploads::Version).big_integer().not_null())
        .col(ColumnDef::new(Uploads::CreatedAt).timestamp_with_time_zone().not_null())
        .col(ColumnDef::new(Uploads::UpdatedAt).timestamp_with_time_zone().not_null())
        .foreign_key(
            ForeignKey::create()
                .name("fk_uploads_track")
                .from(Uploads::Table, Uploads::TrackId)
                .to(Tracks::Table, Tracks::Id)
                // A track's row is deleted at once. The rows of its uploads remain until their
                // objects are deleted.
                .on_delete(ForeignKeyAction::SetNull),
        )
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

fn indexes() -> Vec<IndexCreateStatement> {
    use Tracks as T;
    use Uploads as U;
    vec![
        // Each list of an owner, in each order and with each filter, has an index for keyset
        // cursors.
        index(T::Table, "ix_tracks_created", [T::Owner, T::CreatedAt, T::Id]),
        index(T::Table, "ix_tracks_title", [T::Owner, T::TitleOrder, T::Id]),
        index(T::Table, "ix_tracks_artist", [T::Owner, T::ArtistOrder, T::Id]),
        index(T::Table, "ix_tracks_release", [T::Owner, T::ReleaseOrder, T::Id]),
        index(T::Table, "ix_tracks_status", [T::Owner, T::Status, T::CreatedAt, T::Id]),
        index(U::Table, "ix_uploads_created", [U::Owner, U::CreatedAt, U::Id]),
        index(U::Table, "ix_uploads_owner_status", [U::Owner, U::Status, U::CreatedAt, U::Id]),
        index(U::Table, "ix_uploads_track", [U::TrackId, U::CreatedAt, U::Id]),
        // For the reconciler: rows in the order of their keys, pending rows by deadline, deletions
        // by due time.
        index(U::Table, "ix_uploads_key", [U::Policy, U::Key]).unique().to_owned(),
        index(U::Table, "ix_uploads_deadline", [U::Status, U::UrlExpiresAt]),
        index(U::Table, "ix_uploads_deletion", [U::ObjectDeletedAt, U::ObjectDeleteAfter]),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table(Instance::Table)
                    .col(ColumnDef::new(Instance::Id).integer().not_null().primary_key())
                    .col(ColumnDef::new(Instance::Uuid).uuid().not_null())
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table(Markers::Table)
                    .col(ColumnDef::new(Markers::Bucket).text().not_null())
                    .col(ColumnDef::new(Markers::Prefix).text().not_null())
                    .col(ColumnDef::new(Markers::WrittenAt).timestamp_with_time_zone().not_null())
                    .primary_key(Index::create().col(Markers::Bucket).col(Markers::Prefix))
                    .to_owned(),
            )
            .await?;
        manager.create_table(tracks(manager)).await?;
        manager.create_table(uploads(manager)).await?;
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(Uploads::Table).to_owned()).await?;
        manager.drop_table(Table::drop().table(Tracks::Table).to_owned()).await?;
        manager.drop_table(Table::drop().table(Markers::Table).to_owned()).await?;
        manager.drop_table(Table::drop().table(Instance::Table).to_owned()).await
    }
}
