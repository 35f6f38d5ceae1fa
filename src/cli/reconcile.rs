//! `reconcile`: one run in the foreground.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use super::adapters::{self, Adapters};
use crate::config::Config;
use crate::domain::PolicyName;
use crate::domain::run::{Mode, Run, RunRequest, RunStatus, Trigger};
use crate::reconcile::{Progress, Reconciler, RunHandle, StartError};

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(200);

/// What `reconcile` takes.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// How much to look at.
    #[arg(long, value_enum, default_value_t = ModeArg::Audit)]
    mode: ModeArg,
    /// One policy only.
    #[arg(long)]
    policy: Option<String>,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Go on where a run would stop because it marks missing or deletes too much.
    #[arg(long)]
    force: bool,
    /// Print the run as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeArg {
    /// The open uploads.
    Incremental,
    /// The whole bucket against the whole table.
    Audit,
}

/// Runs once; the exit code is 0 where the run succeeded.
pub async fn run(file: Option<&Path>, args: &ReconcileArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    let _log = super::start_log(&config)?;
    config.require_stores()?;
    let db = adapters::database(&config).await?;
    let pending = db.pending_migrations().await?;
    if !pending.is_empty() {
        bail!("{} migrations are pending: run `migrate up`", pending.len());
    }
    let adapters = Adapters::connect(&config, db).await?;
    let settings = adapters::reconcile_settings(&config);
    let reconciler = Arc::new(Reconciler::new(Arc::clone(&adapters.app), settings));
    let request = RunRequest {
        mode: match args.mode {
            ModeArg::Incremental => Mode::Incremental,
            ModeArg::Audit => Mode::Audit,
        },
        policy: args.policy.clone().map(PolicyName::new),
        dry_run: args.dry_run,
        force: args.force,
        trigger: Trigger::Cli,
    };
    let run = match reconciler.start(request).await {
        Ok(handle) => watch(&reconciler, handle).await,
        Err(error @ StartError::Held(_)) => bail!("{error}; wait for it, or cancel it"),
        Err(error) => return Err(error.into()),
    };
    adapters.close().await;
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&crate::http::views::RunView::from(run.clone()))?
        );
    } else {
        println!("{}", summary(&run));
    }
    let good = run.status == RunStatus::Succeeded;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows a bar on a terminal until the run ends; Ctrl-C or SIGTERM ends it in order.
async fn watch(reconciler: &Reconciler, handle: RunHandle) -> Run {
    let bar = std::io::stderr().is_terminal().then(bar);
    let mut ticks = tokio::time::interval(TICK);
    let mut stop = std::pin::pin!(super::service::stop_signal());
    while !handle.is_finished() {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stop => {
                reconciler.shut_down().await;
                break;
            }
        }
        if let Some(bar) = &bar {
            show(bar, handle.progress());
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    handle.wait().await
}

fn bar() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} shards {pos}/{len} [{bar:30}] {elapsed} {msg}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn show(bar: &ProgressBar, progress: Progress) {
    let seconds = bar.elapsed().as_secs().max(1);
    let listed = progress.counters.listed;
    bar.set_length(progress.shards);
    bar.set_position(progress.shards_done);
    bar.set_message(format!(
        "{listed} objects ({}/s), {} findings",
        listed / seconds,
        progress.findings
    ));
}

fn summary(run: &Run) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let dry = if run.request.dry_run { " (dry run)" } else { "" };
    table.set_header(vec![
        format!("{} {}{dry}", run.request.mode.name(), run.id),
        run.status.name().to_owned(),
    ]);
    for (name, count) in run.counters.named() {
        table.add_row(vec![name.replace('_', " "), count.to_string()]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    match &run.error {
        Some(error) => format!("{table}\n{error}"),
        None => table.to_string(),
    }
}
