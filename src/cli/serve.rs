//! `serve`: the service from the configuration.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::adapters::{self, Adapters, tls};
use super::patience::Patience;
use super::service::Service;
use crate::config::Config;

/// The arguments of `serve`.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// Apply pending migrations first.
    #[arg(long)]
    pub migrate: bool,
}

/// Refuses a configuration that can be loaded but not served. `config check` calls it too.
pub fn check(config: &Config) -> anyhow::Result<()> {
    config.require_stores()?;
    config.auth.check_bind(config.server.bind)?;
    tls::server_config(&config.server.tls)?;
    Ok(())
}

/// Serves until SIGTERM or Ctrl-C.
pub async fn run(file: Option<&Path>, args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    let _log = super::start_log(&config)?;
    check(&config)?;
    let patience = Patience::of(config.server.start_timeout.get());
    let open = async || {
        let db = adapters::database(&config).await?;
        if args.migrate {
            db.migrate_up().await?;
        }
        adapters::require_schema(&db).await?;
        Ok(db)
    };
    let db = patience.until_available("the database", open).await?;
    let adapters = Adapters::connect(&config, db, &patience).await?;
    Service::start(&config, adapters, &patience, false).await?.until_stopped().await?;
    Ok(ExitCode::SUCCESS)
}
