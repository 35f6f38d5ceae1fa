//! Indexes for lists: uploads by policy, and an artist's tracks in the order of their creation. The
//! index over deadlines alone is dropped, because every query by deadline is also by policy.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum Tracks {
    Table,
    Owner,
    ArtistOrder,
    CreatedAt,
    Id,
}

#[derive(DeriveIden)]
enum Uploads {
    Table,
    Owner,
    Policy,
    Status,
    UrlExpiresAt,
    CreatedAt,
    Id,
}

fn gone(name: &str, table: impl IntoTableRef) -> IndexDropStatement {
    Index::drop().name(name).table(table).to_owned()
}

/// The index by artist. `up` and `down` create different indexes with the same name.
fn artist() -> IndexCreateStatement {
    use Tracks as T;
    let mut index = Index::create();
    index.name("ix_tracks_artist").table(T::Table).col(T::Owner).col(T::ArtistOrder);
    index
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use Uploads as U;
        manager.drop_index(gone("ix_tracks_artist", Tracks::Table)).await?;
        manager.create_index(artist().col(Tracks::CreatedAt).col(Tracks::Id).take()).await?;
        manager.drop_index(gone("ix_uploads_deadline", U::Table)).await?;
        let mut policy = Index::create();
        policy.name("ix_uploads_owner_policy").table(U::Table);
        policy.col(U::Owner).col(U::Policy).col(U::CreatedAt).col(U::Id);
        manager.create_index(policy).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use Uploads as U;
        manager.drop_index(gone("ix_uploads_owner_policy", U::Table)).await?;
        let mut deadline = Index::create();
        deadline.name("ix_uploads_deadline").table(U::Table).col(U::Status).col(U::UrlExpiresAt);
        manager.create_index(deadline).await?;
        manager.drop_index(gone("ix_tracks_artist", Tracks::Table)).await?;
        manager.create_index(artist().col(Tracks::Id).take()).await
    }
}
