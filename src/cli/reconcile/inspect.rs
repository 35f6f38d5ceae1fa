//! `reconcile --inspect`: inspects files that were verified before their policy had inspectors.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use crate::app::App;
use crate::app::inspections::Inspector;
use crate::app::inspections::backfill::Backfilled;
use crate::domain::{Policy, Upload};
use crate::reconcile::throttle::Throttle;

/// Uploads per page.
const PAGE: u64 = 500;

/// The files to inspect, and the speed.
pub(super) struct Backfill<'a> {
    /// One policy only.
    pub policy: Option<&'a str>,
    /// Files per second; 0 means no limit.
    pub rate: u32,
    /// Whether to change nothing.
    pub dry_run: bool,
    /// Whether to print JSON.
    pub json: bool,
}

/// A file with another result than acceptance.
#[derive(Debug, Serialize)]
struct Found {
    outcome: &'static str,
    upload: String,
    key: String,
    inspector: String,
    reason: String,
}

/// The numbers of files by result, and the files that were not accepted.
#[derive(Debug, Default, Serialize)]
struct Summary {
    examined: u64,
    accepted: u64,
    rejected: u64,
    withheld: u64,
    unresolved: u64,
    findings: Vec<Found>,
}

impl Summary {
    fn add(&mut self, inspector: &Inspector, (id, key): (String, String), found: &Backfilled) {
        self.examined += 1;
        match found {
            Backfilled::Accepted => self.accepted += 1,
            Backfilled::Rejected(_) => self.rejected += 1,
            Backfilled::Withheld(_) => self.withheld += 1,
            Backfilled::Unresolved(_) => self.unresolved += 1,
        }
        if let Some(reason) = found.reason() {
            self.findings.push(Found {
                outcome: found.name(),
                upload: id,
                key,
                inspector: inspector.name.to_string(),
                reason: reason.to_owned(),
            });
        }
    }
}

/// Inspects all files that an inspector of their policy has not accepted yet. The exit code is 1 if
/// some have no verdict or a rejection was withheld.
pub(super) async fn run(app: &App, backfill: &Backfill<'_>) -> anyhow::Result<ExitCode> {
    let policies = app.policies.values();
    let wanted = |policy: &&Policy| {
        backfill.policy.is_none_or(|name| policy.name.as_str() == name)
            && !policy.inspect.is_empty()
    };
    let policies: Vec<&Policy> = policies.filter(wanted).collect();
    if policies.is_empty() {
        bail!("no policy has inspectors that examine verified files; set policies.<name>.inspect");
    }
    let throttle = Throttle::new(backfill.rate);
    let mut summary = Summary::default();
    for policy in policies {
        inspect_policy(app, backfill, &throttle, policy, &mut summary).await?;
    }
    if backfill.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        for Found { outcome, upload: _, key, inspector, reason } in &summary.findings {
            println!("{outcome:<10} {key}  {inspector}: {reason}");
        }
        let Summary { examined, accepted, rejected, withheld, unresolved, .. } = &summary;
        println!(
            "{examined} examined, {accepted} accepted, {rejected} rejected, {withheld} withheld, \
             {unresolved} unresolved"
        );
    }
    let complete = summary.unresolved == 0 && (summary.withheld == 0 || backfill.dry_run);
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn inspect_policy(
    app: &App,
    backfill: &Backfill<'_>,
    throttle: &Throttle,
    policy: &Policy,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page = app.list_to_backfill(policy, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.as_str().to_owned());
        for name in &policy.inspect {
            let Some(inspector) = app.inspectors.get(name) else { continue };
            inspect_page(app, backfill, throttle, inspector, &page, summary).await?;
        }
    }
}

async fn inspect_page(
    app: &App,
    backfill: &Backfill<'_>,
    throttle: &Throttle,
    inspector: &Arc<Inspector>,
    page: &[Upload],
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let new = page.iter().filter(|upload| !upload.annotations.contains_key(&inspector.name));
    let examined = stream::iter(new).map(|upload| async move {
        throttle.acquire().await;
        // An earlier inspector may have rejected it, or its owner deleted it.
        let row = app.db.uploads().find_any_owner(upload.id).await?;
        let place = (upload.id.to_string(), upload.key.as_str().to_owned());
        let Some(row) = row.filter(|row| row.state.verified().is_some()) else {
            return anyhow::Ok(None);
        };
        Ok(Some((place, app.backfill(inspector, row, backfill.dry_run).await?)))
    });
    let mut examined = examined.buffer_unordered(inspector.concurrency);
    while let Some(one) = examined.next().await {
        if let Some((place, found)) = one? {
            summary.add(inspector, place, &found);
        }
    }
    Ok(())
}
