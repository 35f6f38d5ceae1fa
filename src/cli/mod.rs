//! The command line: one file for each subcommand. [`adapters`] builds the concrete adapters,
//! [`service`] runs them.
//!
//! To add a command, add a file here with its arguments and a function `run`, and a variant of
//! [`Command`].

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, OTLP_ENDPOINT, near_misses};
use crate::telemetry::{self, traces::Traces};

pub mod adapters;
pub mod config;
#[cfg(feature = "embedded-s3")]
pub mod dev;
pub mod doctor;
#[cfg(feature = "embedded-s3")]
pub mod embedded;
pub mod instance;
pub mod migrate;
pub mod moves;
pub mod openapi;
pub mod patience;
pub mod reconcile;
pub mod serve;
pub mod service;
pub mod shutdown;
pub mod token;
pub mod upload_token;

use adapters::trace_collector::Collector;

/// Presigned uploads straight to S3, with a status you can trust.
#[derive(Debug, Parser)]
#[command(name = "upload-coordinator", version, about)]
pub struct Cli {
    /// The configuration file (TOML). The environment overrides it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine: SQLite and an S3 server under one folder.
    #[cfg(feature = "embedded-s3")]
    Dev(dev::DevArgs),
    /// Run the service from the configuration.
    Serve(serve::ServeArgs),
    /// Change the database's schema, or show its state.
    Migrate(migrate::MigrateArgs),
    /// Compare the bucket with the database once, in the foreground.
    Reconcile(reconcile::ReconcileArgs),
    /// Move a policy's objects to its configured store and prefix, while the service runs.
    Move(moves::MoveArgs),
    /// Check everything that the service uses, and print what to fix.
    Doctor(doctor::DoctorArgs),
    /// Maintain the embedded S3 server.
    #[cfg(feature = "embedded-s3")]
    Embedded(embedded::EmbeddedArgs),
    /// Tell a database and its copy apart: both have the same id until one of them gets a new one.
    Instance(instance::InstanceArgs),
    /// Create, list and revoke API keys.
    Token(token::TokenArgs),
    /// Create, list and revoke upload tokens.
    UploadToken(upload_token::UploadTokenArgs),
    /// Print the OpenAPI document.
    Openapi,
    /// Validate or show the effective configuration.
    Config(config::ConfigArgs),
}

impl Cli {
    /// Runs the subcommand. Without a subcommand, runs `dev`, or `serve` in a build without `dev`.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let file = self.config.as_deref();
        match self.command {
            #[cfg(feature = "embedded-s3")]
            None => dev::run(file, &dev::DevArgs::default()).await,
            #[cfg(not(feature = "embedded-s3"))]
            None => serve::run(file, &serve::ServeArgs::default()).await,
            #[cfg(feature = "embedded-s3")]
            Some(Command::Dev(args)) => dev::run(file, &args).await,
            Some(Command::Serve(args)) => serve::run(file, &args).await,
            Some(Command::Migrate(args)) => migrate::run(file, &args).await,
            Some(Command::Reconcile(args)) => reconcile::run(file, &args).await,
            Some(Command::Move(args)) => moves::run(file, &args).await,
            Some(Command::Doctor(args)) => doctor::run(file, &args).await,
            #[cfg(feature = "embedded-s3")]
            Some(Command::Embedded(args)) => embedded::run(file, &args).await,
            Some(Command::Instance(args)) => instance::run(file, &args).await,
            Some(Command::Token(args)) => token::run(file, &args).await,
            Some(Command::UploadToken(args)) => upload_token::run(file, &args).await,
            Some(Command::Openapi) => openapi::run(),
            Some(Command::Config(args)) => config::run(file, &args).await,
        }
    }
}

/// Warnings about environment variables that were probably meant as keys.
fn variable_warnings() -> Vec<String> {
    let names: Vec<String> =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let misses = near_misses(names.iter().map(String::as_str));
    let warning = |(name, meant): (String, String)| {
        format!("the environment variable {name} has no effect; did you mean {meant}?")
    };
    misses.into_iter().map(warning).collect()
}

/// Starts the log, and tracing if a collector is configured. Both are flushed when the result is
/// dropped.
fn start_log(config: &Config) -> anyhow::Result<telemetry::LogFlusher> {
    let standard = std::env::var(OTLP_ENDPOINT).ok();
    let endpoint = config.telemetry.collector(standard.as_deref());
    let traces =
        endpoint.map(|url| Traces::new(&url, Collector::in_current_runtime())).transpose()?;
    let flusher = telemetry::init(&config.telemetry, traces)?;
    for warning in variable_warnings() {
        tracing::warn!("{warning}");
    }
    Ok(flusher)
}
