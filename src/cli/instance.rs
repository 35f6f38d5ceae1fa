//! `instance`: the commands for two databases that have the same id because one is a copy of the
//! other.

use std::io::{IsTerminal as _, stdin};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::adapters::{self, Adapters};
use super::patience::Patience;
use crate::app::bucket_identity::instance::InstanceReport;
use crate::config::Config;
use crate::domain::PolicyName;
use crate::domain::marker::BucketIdentity;
use crate::http::views::InstanceView;

/// The arguments of `instance`.
#[derive(Debug, Args)]
pub struct InstanceArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show this database's id and the markers of its policies.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// This database is the copy: give it a new id. Its policies then need other buckets or
    /// prefixes.
    Reissue {
        #[command(flatten)]
        change: Change,
    },
    /// This database is the original: take its markers back. Stop or reissue the copy first.
    Reclaim {
        /// One policy only.
        #[arg(long)]
        policy: Option<String>,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, Args)]
struct Change {
    /// Do not ask for confirmation. Without a terminal, the command never asks.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the action, and then prints the database's id and its markers. The exit code is 0 if all
/// markers belong to this database.
pub async fn run(file: Option<&Path>, args: &InstanceArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    let _log = super::start_log(&config)?;
    config.require_stores()?;
    let db = adapters::database(&config).await?;
    adapters::require_schema(&db).await?;
    let adapters = Adapters::connect(&config, db, &Patience::none()).await?;
    let done = act(&adapters, &args.action).await;
    adapters.close().await;
    let Some((report, json)) = done? else {
        eprintln!("not confirmed: nothing was changed");
        return Ok(ExitCode::FAILURE);
    };
    let trusted = report.markers.iter().all(|marker| marker.identity == BucketIdentity::Match);
    if json {
        println!("{}", serde_json::to_string_pretty(&InstanceView::from(report))?);
    } else {
        println!("{}", text(&report));
    }
    Ok(if trusted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the action. Returns `None` if the operator declined.
async fn act(
    adapters: &Adapters,
    action: &Action,
) -> anyhow::Result<Option<(InstanceReport, bool)>> {
    let app = &adapters.app;
    match action {
        Action::Show { json } => Ok(Some((app.inspect_instance().await?, *json))),
        Action::Reissue { change } => {
            let before = app.inspect_instance().await?;
            let effect = format!(
                "{}\n\nThis database gets a new id, so the current markers no longer belong to it. \
                 The markers are not changed. Until a policy is configured with another bucket or \
                 prefix, its bucket is not trusted: nothing is deleted there.",
                text(&before)
            );
            if !change.is_confirmed(&effect)? {
                return Ok(None);
            }
            Ok(Some((app.reissue_instance().await?, change.json)))
        }
        Action::Reclaim { policy, change } => {
            let before = app.inspect_instance().await?;
            let policy = policy.clone().map(PolicyName::new);
            let chosen = |name: &PolicyName| policy.as_ref().is_none_or(|policy| policy == name);
            let lines =
                before.markers.iter().filter(|marker| chosen(&marker.policy)).map(|marker| {
                    let what = if marker.can_be_reclaimed(&before) {
                        "will be taken over"
                    } else {
                        "will not be changed"
                    };
                    format!("  {} in {}: {what}", marker.key, marker.bucket)
                });
            let lines: Vec<_> = lines.collect();
            let effect = format!(
                "{}\n\nThis database takes over these markers. A copy of it that is still in use \
                 is no longer trusted with them:\n{}",
                text(&before),
                lines.join("\n")
            );
            if !change.is_confirmed(&effect)? {
                return Ok(None);
            }
            Ok(Some((app.reclaim_markers(policy.as_ref()).await?, change.json)))
        }
    }
}

impl Change {
    /// Prints what will happen, and asks for confirmation on a terminal.
    fn is_confirmed(&self, effect: &str) -> anyhow::Result<bool> {
        eprintln!("{effect}");
        if self.yes || !stdin().is_terminal() {
            return Ok(true);
        }
        eprint!("\nContinue? Type yes: ");
        let mut response = String::new();
        stdin().read_line(&mut response)?;
        Ok(response.trim() == "yes")
    }
}

fn text(report: &InstanceReport) -> String {
    let mut lines = vec![format!("instance {}", report.id)];
    if let Some(former) = report.former {
        lines.push(format!("formerly {former}"));
    }
    for marker in &report.markers {
        let (policy, identity) = (&marker.policy, &marker.identity);
        lines.push(format!("  policy {policy}, {} in {}: {identity}", marker.key, marker.bucket));
    }
    lines.join("\n")
}
