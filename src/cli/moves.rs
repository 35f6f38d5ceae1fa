//! `move`: moves a policy's objects to its current location, in the foreground.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::Args;

use super::adapters::{self, Adapters};
use super::patience::Patience;
use super::reconcile::{list_findings, quiet_on_terminal, start, summary, watch};
use super::shutdown::CLOSE_TIMEOUT;
use crate::config::Config;
use crate::domain::PolicyName;
use crate::domain::run::{MAX_TRANSFERS, Moving, RunRequest, RunStatus, Trigger};
use crate::http::views::MoveView;
use crate::reconcile::Reconciler;

/// The arguments of `move`.
#[derive(Debug, Args)]
pub struct MoveArgs {
    /// The policy whose objects are moved to its configured store and prefix.
    #[arg(long)]
    policy: String,
    /// A store where the policy has former locations. The objects there are moved.
    #[arg(long, value_name = "STORE")]
    from: String,
    /// How many objects are transferred at the same time. The default is `reconcile.concurrency`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_TRANSFERS)))]
    concurrency: Option<u16>,
    /// Count what would be moved, print what could not be moved, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the move as JSON.
    #[arg(long)]
    json: bool,
}

/// Moves the objects once. The exit code is 0 if the run succeeded and no object failed.
pub async fn run(file: Option<&Path>, args: &MoveArgs) -> anyhow::Result<ExitCode> {
    let mut config = Config::load(file)?;
    quiet_on_terminal(&mut config);
    let _log = super::start_log(&config)?;
    config.require_stores()?;
    let db = adapters::database(&config).await?;
    adapters::require_schema(&db).await?;
    let adapters = Adapters::connect(&config, db, &Patience::none()).await?;
    let settings = adapters::reconcile_settings(&config);
    let default = u16::try_from(settings.concurrency).unwrap_or(MAX_TRANSFERS).min(MAX_TRANSFERS);
    let reconciler = Arc::new(Reconciler::new(Arc::clone(&adapters.app), settings));
    let moving =
        Moving { from: args.from.clone(), concurrency: args.concurrency.unwrap_or(default) };
    let policy = PolicyName::new(args.policy.clone());
    let request = RunRequest::of_move(policy, moving, args.dry_run, Trigger::Cli);
    let time_limit = config.server.shutdown_timeout.get() + CLOSE_TIMEOUT;
    let run = match start(&reconciler, request, time_limit).await? {
        Some(handle) => watch(&reconciler, handle, time_limit).await?,
        None => bail!("interrupted"),
    };
    reconciler.shut_down().await;
    if !args.json {
        list_findings(&reconciler, &run).await?;
    }
    adapters.close().await;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&MoveView::from(run.clone()))?);
    } else {
        println!("{}", summary(&run));
    }
    let succeeded = run.status == RunStatus::Succeeded && run.counters.moves.failed == 0;
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
