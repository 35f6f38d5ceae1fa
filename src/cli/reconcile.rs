//! `reconcile`: one reconciliation run in the foreground.

mod inspect;
mod overrides;

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
use super::patience::Patience;
use super::shutdown::{CLOSE_TIMEOUT, Shutdown, StopSignals};
use crate::app::App;
use crate::config::{Config, LogFilter};
use crate::domain::run::{
    Finding, Mode, Progress, Run, RunRequest, RunStatus, StoredFinding, Trigger,
};
use crate::domain::{Owner, PolicyName};
use crate::reconcile::{CancelError, Reconciler, RunHandle, StartError};

/// How often the progress bar is updated.
const TICK: Duration = Duration::from_millis(200);

/// Findings per page.
const PAGE: u64 = 1000;

/// The arguments of `reconcile`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct ReconcileArgs {
    /// What to compare.
    #[arg(long, value_enum, default_value_t = ModeArg::Audit)]
    mode: ModeArg,
    /// One policy only.
    #[arg(long)]
    policy: Option<String>,
    /// Print what would be done, object by object, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Raise the damage limit of this run to N: for each policy, it may mark missing, reject or
    /// delete up to N verified uploads that no owner ended.
    #[arg(long, value_name = "N")]
    accept_damage: Option<u64>,
    /// Write the marker again if it is missing, and treat the bucket as this database's own.
    #[arg(long)]
    adopt_bucket: bool,
    /// Create uploads for objects without a row, if they pass the policy's rules. Use this after an
    /// older copy of the database was restored, which has no rows for newer objects. Audits only.
    #[arg(long, alias = "adopt-orphans", requires = "owner")]
    adopt: bool,
    /// The owner of the uploads that `--adopt` creates.
    #[arg(long, value_name = "NAME", requires = "adopt", value_parser = super::token::owner)]
    owner: Option<Owner>,
    /// Instead of a run, inspect the files that were verified before their policy had inspectors. A
    /// file that is rejected is no longer served, and counts towards the damage limit of the hour.
    #[arg(long, conflicts_with_all = ["mode", "accept_damage", "adopt_bucket", "adopt"])]
    inspect: bool,
    /// How many files `--inspect` starts per second; 0 means no limit.
    #[arg(long, value_name = "N", default_value_t = 10, requires = "inspect")]
    inspect_rate: u32,
    /// Replaced by other options; hidden.
    #[arg(long, hide = true)]
    force: bool,
    /// Print the run as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeArg {
    /// Compare only the open uploads.
    Incremental,
    /// Compare the whole bucket with the whole table.
    Audit,
}

/// Executes one run. The exit code is 0 if the run succeeded.
pub async fn run(file: Option<&Path>, args: &ReconcileArgs) -> anyhow::Result<ExitCode> {
    if args.force {
        bail!(
            "--force was replaced: use --accept-damage N to raise the damage limit to N, or \
             --adopt-bucket to write a missing marker again"
        );
    }
    if args.adopt && matches!(args.mode, ModeArg::Incremental) {
        bail!("--adopt needs --mode audit: an incremental run does not see all objects");
    }
    let mut config = Config::load(file)?;
    quiet_on_terminal(&mut config);
    let _log = super::start_log(&config)?;
    config.require_stores()?;
    let db = adapters::database(&config).await?;
    adapters::require_schema(&db).await?;
    let adapters = Adapters::connect(&config, db, &Patience::none()).await?;
    if args.inspect {
        let policy = args.policy.as_deref();
        let (rate, dry_run, json) = (args.inspect_rate, args.dry_run, args.json);
        let patience = config.server.shutdown_timeout.get() + CLOSE_TIMEOUT;
        let backfill = inspect::Backfill { policy, rate, dry_run, json, patience };
        let ended = inspect::run(&adapters.app, &backfill).await;
        adapters.close().await;
        return ended;
    }
    let settings = adapters::reconcile_settings(&config);
    let reconciler = Arc::new(Reconciler::new(Arc::clone(&adapters.app), settings));
    let request = RunRequest {
        mode: match args.mode {
            ModeArg::Incremental => Mode::Incremental,
            ModeArg::Audit => Mode::Audit,
        },
        policy: args.policy.clone().map(PolicyName::new),
        dry_run: args.dry_run,
        accept_damage: args.accept_damage.unwrap_or_default(),
        adopt_bucket: args.adopt_bucket,
        adopt: args.owner.clone(),
        moving: None,
        trigger: Trigger::Cli,
    };
    confirm(&adapters.app, &request).await?;
    let time_limit = config.server.shutdown_timeout.get() + CLOSE_TIMEOUT;
    let run = match start(&reconciler, request, time_limit).await? {
        Some(handle) => watch(&reconciler, handle, time_limit).await?,
        None => bail!("interrupted"),
    };
    reconciler.shut_down().await;
    if run.request.dry_run && !args.json {
        list_findings(&reconciler, &run).await?;
    }
    adapters.close().await;
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&crate::http::views::RunView::from(run.clone()))?
        );
    } else {
        println!("{}", summary(&run));
    }
    let succeeded = run.status == RunStatus::Succeeded;
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Hides log lines below warnings if a progress bar is shown, unless `telemetry.log` is configured.
pub(super) fn quiet_on_terminal(config: &mut Config) {
    if std::io::stderr().is_terminal() && config.telemetry.log == LogFilter::default() {
        config.telemetry.log = LogFilter::warnings();
    }
}

/// Explains what the request allows beyond the safety limits, and asks for confirmation on a
/// terminal.
async fn confirm(app: &App, request: &RunRequest) -> anyhow::Result<()> {
    let overrides = overrides::overrides_of(app, request).await?;
    let confirmation = move || {
        let stdin = std::io::stdin();
        let input = stdin.is_terminal().then(|| stdin.lock());
        overrides::confirm(&overrides, input, &mut std::io::stderr())
    };
    tokio::task::spawn_blocking(confirmation).await?
}

/// Starts a run. If the process of an earlier run died, finishes that run first. Returns `None` if
/// the earlier run was cancelled by a signal.
pub(super) async fn start(
    reconciler: &Arc<Reconciler>,
    request: RunRequest,
    time_limit: Duration,
) -> anyhow::Result<Option<RunHandle>> {
    loop {
        let held = match reconciler.start(request.clone()).await {
            Ok(handle) => return Ok(Some(handle)),
            Err(StartError::Held(held)) => held,
            Err(error) => return Err(error.into()),
        };
        if !reconciler.app.db.runs().is_unclaimed(held).await? {
            bail!("{}; wait for it, or cancel it", StartError::Held(held));
        }
        tracing::info!(run = %held, "the process of an earlier run died; its run is finished first");
        if let Some(handle) = reconciler.join(held).await
            && watch(reconciler, handle, time_limit).await?.status == RunStatus::Cancelled
        {
            return Ok(None);
        }
    }
}

/// Shows a progress bar on a terminal until the run ends. Ctrl-C or SIGTERM cancels the run, and
/// the process ends at most `time_limit` later.
pub(super) async fn watch(
    reconciler: &Arc<Reconciler>,
    handle: RunHandle,
    time_limit: Duration,
) -> anyhow::Result<Run> {
    let bar = std::io::stderr().is_terminal().then(bar);
    let id = handle.run.id;
    let mut ticks = tokio::time::interval(TICK);
    let mut signals = StopSignals::listen()?;
    let mut ended = std::pin::pin!(handle.wait());
    let run = loop {
        tokio::select! {
            run = &mut ended => break run,
            _ = ticks.tick(), if bar.is_some() => {
                if let (Some(bar), Ok(Some(progress))) = (&bar, reconciler.app.db.runs().progress(id).await)
                {
                    show(bar, &progress);
                }
            }
            () = signals.next() => {
                let shutdown = Shutdown::begin(time_limit, signals)?;
                let cancelled = async {
                    match reconciler.cancel(id).await {
                        Ok(_) | Err(CancelError::Ended(_)) => anyhow::Ok(ended.await),
                        Err(error) => Err(error.into()),
                    }
                };
                break shutdown.track("the run", cancelled).await?;
            }
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(run)
}

/// Prints one line for each finding of a run. The findings of a dry run include the deletions and
/// aborts that a real run would execute.
pub(super) async fn list_findings(reconciler: &Reconciler, run: &Run) -> anyhow::Result<()> {
    let mut cursor = None;
    loop {
        let page = reconciler.app.db.findings().list(run, None, cursor.as_ref(), PAGE).await?;
        for StoredFinding { finding: Finding { kind, key, detail, .. }, .. } in page.items {
            println!("{:<20} {key} {}", kind.name(), detail.unwrap_or_default());
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

fn bar() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} shards {pos}/{len} [{bar:30}] {elapsed} {msg}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn show(bar: &ProgressBar, progress: &Progress) {
    let seconds = bar.elapsed().as_secs().max(1);
    let counters = &progress.run.counters;
    let objects = counters.listed + counters.moves.moved;
    bar.set_length(progress.shards);
    bar.set_position(progress.shards_done);
    bar.set_message(format!(
        "{objects} objects ({}/s), {} findings",
        objects / seconds,
        progress.findings
    ));
}

pub(super) fn summary(run: &Run) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let dry = if run.request.dry_run { " (dry run)" } else { "" };
    table.set_header(vec![
        format!("{} {}{dry}", run.request.mode.name(), run.id),
        run.status.name().to_owned(),
    ]);
    let counts = match run.request.mode {
        Mode::Move => run.counters.moves.named().to_vec(),
        Mode::Incremental | Mode::Audit => run.counters.named().to_vec(),
    };
    for (name, count) in counts {
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ReconcileArgs,
    }

    #[test]
    fn an_adoption_names_its_owner() {
        let parse = |line: &str| Line::try_parse_from(line.split(' '));
        for line in ["reconcile --adopt", "reconcile --owner ann", "reconcile --adopt --owner"] {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in ["reconcile --adopt --owner ann", "reconcile --adopt-orphans --owner ann"] {
            let args = parse(line).unwrap().args;
            assert_eq!((args.adopt, args.owner), (true, Some(Owner::named("ann"))), "{line}");
        }
    }
}
