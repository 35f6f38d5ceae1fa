//! `reconcile --inspect`: inspects files that were verified before their policy had inspectors.

mod output;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::bail;
use futures_util::{StreamExt as _, stream};

use self::output::Output;
use super::super::shutdown::{Shutdown, StopSignals};
use crate::app::App;
use crate::app::inspections::backfill::{Backfilled, Backfiller};
use crate::domain::{Policy, Upload};
use crate::reconcile::throttle::Throttle;

/// Uploads per page.
const PAGE: u64 = 500;

/// After this number of consecutive failures of an inspector, the backfill ends. The inspector is
/// probably down, so it would fail for every other file too.
const MAX_FAILURES: u32 = 20;

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
    /// How long the files in progress have after Ctrl-C or SIGTERM.
    pub patience: Duration,
}

/// A backfill in progress.
struct Session<'a> {
    app: &'a App,
    dry_run: bool,
    throttle: Throttle,
    /// Whether the session ends. No further file is started then.
    stopped: AtomicBool,
}

/// Inspects all files about which an inspector of their policy has no result yet. The exit code is
/// 1 if a file has no verdict or a rejection was withheld, or if the backfill was interrupted. A
/// later backfill continues.
pub(super) async fn run(app: &App, backfill: &Backfill<'_>) -> anyhow::Result<ExitCode> {
    let policies = policies(app, backfill.policy)?;
    let session = Session {
        app,
        dry_run: backfill.dry_run,
        throttle: Throttle::new(backfill.rate),
        stopped: AtomicBool::new(false),
    };
    let mut output = Output::begin(backfill.json)?;
    let mut signals = StopSignals::listen()?;
    {
        let mut work = std::pin::pin!(session.inspect(policies, &mut output));
        tokio::select! {
            done = &mut work => done?,
            () = signals.next() => {
                session.stopped.store(true, Ordering::SeqCst);
                let shutdown = Shutdown::begin(backfill.patience, signals)?;
                shutdown.track("the files in progress", work).await?;
            }
        }
    }
    let counts = output.end()?;
    let interrupted = session.stopped.load(Ordering::SeqCst);
    let withheld = counts.withheld > 0 && !backfill.dry_run;
    let complete = !interrupted && !withheld && counts.unresolved == 0 && counts.failed == 0;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The policies that have inspectors.
fn policies<'a>(app: &'a App, name: Option<&str>) -> anyhow::Result<Vec<&'a Policy>> {
    let mut policies: Vec<&Policy> = app.policies.values().collect();
    if let Some(name) = name {
        policies.retain(|policy| policy.name.as_str() == name);
        if policies.is_empty() {
            bail!("--policy: there is no policy `{name}`");
        }
    }
    policies.retain(|policy| !policy.inspect.is_empty() || policy.media.is_some());
    if policies.is_empty() {
        bail!("no policy has inspectors; set policies.<name>.inspect");
    }
    Ok(policies)
}

impl Session<'_> {
    async fn inspect(&self, policies: Vec<&Policy>, output: &mut Output) -> anyhow::Result<()> {
        for policy in policies {
            let queued = policy.inspect.iter().filter_map(|name| self.app.inspectors.get(name));
            let media = policy.media.iter().map(|_| (Backfiller::Media, 0));
            // `media` is first, because it is the cheapest inspector.
            let mut inspectors: Vec<_> = media.collect();
            inspectors.extend(queued.map(|inspector| (Backfiller::Queued(inspector), 0)));
            let mut after: Option<String> = None;
            while !self.is_stopped() {
                let page = self.app.list_to_backfill(policy, after.as_deref(), PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.key.as_str().to_owned());
                for (inspector, failures) in &mut inspectors {
                    self.inspect_page(*inspector, failures, &page, output).await?;
                }
            }
        }
        Ok(())
    }

    async fn inspect_page(
        &self,
        inspector: Backfiller<'_>,
        failures: &mut u32,
        page: &[Upload],
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let new = page.iter().filter(|upload| inspector.is_new(upload));
        let examined = stream::iter(new).map(|upload| async move {
            self.throttle.acquire().await;
            if self.is_stopped() {
                return anyhow::Ok(None);
            }
            let found = self.app.backfill(inspector, upload.id, self.dry_run).await?;
            Ok(found.map(|found| (upload, found)))
        });
        let mut examined = examined.buffer_unordered(inspector.concurrency());
        let name = inspector.name();
        while let Some(one) = examined.next().await {
            let Some((upload, found)) = one? else { continue };
            *failures = if matches!(found, Backfilled::Failed(_)) { *failures + 1 } else { 0 };
            output.add(&name, upload, &found)?;
            if *failures == MAX_FAILURES {
                self.stopped.store(true, Ordering::SeqCst);
                tracing::error!(inspector = %name, "stopped after {MAX_FAILURES} failures in a row");
            }
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}
