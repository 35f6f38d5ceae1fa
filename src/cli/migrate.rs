//! `migrate`: the schema of the database.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::adapters;
use crate::config::Config;
use crate::db::Schema;

/// The arguments of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Apply all pending migrations.
    Up,
    /// Revert the newest migration, or several.
    Down {
        /// The number of migrations to revert.
        #[arg(long, default_value_t = 1)]
        steps: u32,
    },
    /// List the migrations and whether they are applied.
    Status,
}

/// Changes the schema, then prints the state of each migration.
pub async fn run(file: Option<&Path>, args: &MigrateArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    let _log = super::start_log(&config)?;
    let db = adapters::database(&config).await?;
    match args.action {
        Action::Up => db.migrate_up().await?,
        Action::Down { steps } => db.migrate_down(steps).await?,
        Action::Status => {}
    }
    for (name, applied) in db.migrations().await? {
        println!("{} {name}", if applied { "applied" } else { "pending" });
    }
    match db.schema().await? {
        Schema::Usable { newer: Some(level) } => {
            println!("a newer version has migrated the database (level {level}); this one may run");
        }
        Schema::TooNew { min_level } => {
            println!("only versions of schema level {min_level} or higher may run");
        }
        Schema::Usable { newer: None } | Schema::Pending(_) => {}
    }
    db.close().await?;
    Ok(ExitCode::SUCCESS)
}
