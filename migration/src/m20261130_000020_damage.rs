//! What a run may do beyond its safety limits: an accepted amount of damage, and the adoption of
//! a bucket. `forced` stays for the runs of version 0.1, where it meant both.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum ReconcileRuns {
    Table,
    AcceptDamage,
    AdoptBucket,
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
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use ReconcileRuns as R;
        for column in [R::AcceptDamage, R::AdoptBucket] {
            manager.alter_table(Table::alter().table(R::Table).drop_column(column).take()).await?;
        }
        Ok(())
    }
}
