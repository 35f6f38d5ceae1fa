//! Overrides of a run's safety limits: an accepted amount of damage, and the adoption of a bucket.
//! `forced` remains for the runs of version 0.1, in which it meant both. Also: the verified facts of
//! an object that was then overwritten with rejected bytes, and the damage of bucket events and
//! confirmations in each hour.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum ReconcileRuns {
    Table,
    AcceptDamage,
    AdoptBucket,
}

#[derive(DeriveIden)]
enum Uploads {
    Table,
    VerifiedBefore,
}

#[derive(DeriveIden)]
enum DamageHours {
    Table,
    Policy,
    Hour,
    Damage,
    Allowed,
}

fn damage_hours() -> TableCreateStatement {
    use DamageHours as D;
    Table::create()
        .table(D::Table)
        .col(ColumnDef::new(D::Policy).text().not_null())
        // Hours since 1970.
        .col(ColumnDef::new(D::Hour).big_integer().not_null())
        .col(ColumnDef::new(D::Damage).big_integer().not_null())
        // The limit, computed at the first damage of the hour.
        .col(ColumnDef::new(D::Allowed).big_integer().not_null())
        .primary_key(Index::create().col(D::Policy).col(D::Hour))
        .to_owned()
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use ReconcileRuns as R;
        for column in [
            ColumnDef::new(R::AcceptDamage).big_integer().not_null().default(0).take(),
            ColumnDef::new(R::AdoptBucket).boolean().not_null().default(false).take(),
        ] {
            manager.alter_table(Table::alter().table(R::Table).add_column(column).take()).await?;
        }
        // JSON. It is read only with the whole row.
        let verified = ColumnDef::new(Uploads::VerifiedBefore).text().take();
        let alter = Table::alter().table(Uploads::Table).add_column(verified).take();
        manager.alter_table(alter).await?;
        manager.create_table(damage_hours()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use ReconcileRuns as R;
        manager.drop_table(Table::drop().table(DamageHours::Table).take()).await?;
        let alter =
            Table::alter().table(Uploads::Table).drop_column(Uploads::VerifiedBefore).take();
        manager.alter_table(alter).await?;
        for column in [R::AcceptDamage, R::AdoptBucket] {
            manager.alter_table(Table::alter().table(R::Table).drop_column(column).take()).await?;
        }
        Ok(())
    }
}
