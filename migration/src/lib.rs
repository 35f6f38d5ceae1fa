//! The schema, as a sequence of migrations, which run in the order of their names. Each has one
//! file. The code of a migration that has landed is never changed. Both databases run the same
//! migrations.

use sea_orm_migration::prelude::*;
pub use sea_orm_migration::{self, MigratorTrait};

mod columns;
pub mod level;
mod m20261123_000001_uploads;
mod m20261123_000002_reconcile;
mod m20261123_000004_part_size;
mod m20261123_000005_webhooks;
mod m20261123_000006_upkeep;
mod m20261123_000007_shards;
mod m20261123_000008_api_keys;
mod m20261123_000009_idempotency;
mod m20261127_000010_lists;
mod m20261127_000011_lean_inserts;
mod m20261127_000012_shard_window;
mod m20261130_000020_damage;
mod m20261130_000020_schema;
mod m20261130_000021_marker_lap;
mod m20261130_000022_adopt_orphans;
mod m20261130_000022_findings;
mod m20261130_000023_cancelled_quota;
mod m20261130_000024_attachments;
mod m20261130_000025_upload_tokens;
mod m20261130_000026_idempotency_outcome;
mod m20261130_000026_upload_history;
mod m20261130_000027_tus;
mod m20261130_000028_url_end_checks;
mod m20261130_000029_inspections;
mod m20261130_000032_locations;
mod m20261130_000033_moves;
mod m20261130_000035_tus_checksums;
pub mod online;

/// All migrations.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_uploads::Migration),
            Box::new(m20261123_000002_reconcile::Migration),
            Box::new(m20261123_000004_part_size::Migration),
            Box::new(m20261123_000005_webhooks::Migration),
            Box::new(m20261123_000006_upkeep::Migration),
            Box::new(m20261123_000007_shards::Migration),
            Box::new(m20261123_000008_api_keys::Migration),
            Box::new(m20261123_000009_idempotency::Migration),
            Box::new(m20261127_000010_lists::Migration),
            Box::new(m20261127_000011_lean_inserts::Migration),
            Box::new(m20261127_000012_shard_window::Migration),
            Box::new(m20261130_000020_damage::Migration),
            Box::new(m20261130_000020_schema::Migration),
            Box::new(m20261130_000021_marker_lap::Migration),
            Box::new(m20261130_000022_adopt_orphans::Migration),
            Box::new(m20261130_000022_findings::Migration),
            Box::new(m20261130_000023_cancelled_quota::Migration),
            Box::new(m20261130_000024_attachments::Migration),
            Box::new(m20261130_000025_upload_tokens::Migration),
            Box::new(m20261130_000026_idempotency_outcome::Migration),
            Box::new(m20261130_000026_upload_history::Migration),
            Box::new(m20261130_000027_tus::Migration),
            Box::new(m20261130_000028_url_end_checks::Migration),
            Box::new(m20261130_000029_inspections::Migration),
            Box::new(m20261130_000032_locations::Migration),
            Box::new(m20261130_000033_moves::Migration),
            Box::new(m20261130_000035_tus_checksums::Migration),
        ]
    }
}
