//! `config`: the effective configuration.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::adapters::stores::OpenedStore;
use crate::config::Config;
use crate::net::http_client;

/// The arguments of `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Validate the configuration, including everything that `serve` refuses.
    Check,
    /// Print the configuration as TOML, with secrets masked.
    Show {
        /// Probe what each store supports and enforces, and add it as comments. Without this
        /// option no request is sent to a store.
        #[arg(long)]
        probe: bool,
    },
}

/// Validates or prints the configuration.
pub async fn run(file: Option<&Path>, args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    match args.action {
        Action::Check => {
            for warning in super::variable_warnings() {
                eprintln!("warning: {warning}");
            }
            super::serve::check(&config)?;
            println!("the configuration is valid");
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

/// Probes and prints the capabilities of each store. They are printed as comments, so that the
/// whole output is a valid configuration file.
async fn show_capabilities(config: &Config) -> anyhow::Result<ExitCode> {
    config.require_stores()?;
    let http = http_client();
    let mut code = ExitCode::SUCCESS;
    for (name, store) in config.stores_in_use() {
        let opened = OpenedStore::open(name, store, &http).await?;
        let report = opened.probe(config, &[]).await;
        opened.close().await;
        println!("\n# Capabilities of storage.{name}, as probed:");
        if report.is_usable() {
            for line in toml::to_string(&report.capabilities)?.lines() {
                println!("#   {line}");
            }
        } else {
            println!("#   unknown: the store can't be used; run `doctor` to see the reason");
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}
