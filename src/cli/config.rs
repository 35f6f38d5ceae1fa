//! `config`: the effective configuration.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::Config;

/// What `config` takes.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say whether it is sound.
    Check,
    /// Print it as TOML, secrets masked.
    Show,
}

/// Checks or shows.
pub fn run(file: Option<&Path>, args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    match args.action {
        Action::Check => {
            config.require_stores()?;
            println!("the configuration is sound");
        }
        Action::Show => print!("{}", config.masked()?),
    }
    Ok(ExitCode::SUCCESS)
}
