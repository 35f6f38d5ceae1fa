//! `config`: the effective configuration.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::adapters::Opened;
use crate::config::Config;
use crate::net::http_client;

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
    Show {
        /// Ask each store what it enforces, and add that as comments. Without it no store is
        /// talked to.
        #[arg(long)]
        probe: bool,
    },
}

/// Checks or shows.
pub async fn run(file: Option<&Path>, args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    match args.action {
        Action::Check => {
            config.require_stores()?;
            println!("the configuration is sound");
        }
        Action::Show { probe } => {
            print!("{}", config.masked()?);
            if probe {
                return show_capabilities(&config).await;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// As comments, so that all that is printed can be taken as a configuration file.
async fn show_capabilities(config: &Config) -> anyhow::Result<ExitCode> {
    config.require_stores()?;
    let http = http_client();
    let mut code = ExitCode::SUCCESS;
    for (name, store) in config.stores_in_use() {
        let opened = Opened::open(name, store, &http).await?;
        let report = opened.probe(config, &[]).await;
        opened.close().await;
        println!("\n# What storage.{name} does, as probed:");
        if report.is_usable() {
            for line in toml::to_string(&report.capabilities)?.lines() {
                println!("#   {line}");
            }
        } else {
            println!("#   unknown: it can't be used; `doctor` says why");
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}
