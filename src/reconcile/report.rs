//! What a run reports while it works: counters for people to watch, findings as rows.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::streams::ListingCost;
use crate::app::App;
use crate::db::DbError;
use crate::domain::policy::RejectReason;
use crate::domain::run::{Counters, Finding, FindingKind};
use crate::domain::upload::State;
use crate::domain::{RunId, Timestamp, Upload};

/// How many findings are written at once.
const BATCH: usize = 200;

/// Progress and findings of one run, shared by its shards.
pub struct Report {
    run: RunId,
    counters: Mutex<Counters>,
    /// LIST requests and objects, counted by the streams.
    pub listing: ListingCost,
    /// How many shards there are, and how many are done.
    pub shards: (AtomicU64, AtomicU64),
    waiting: Mutex<Vec<Finding>>,
    written: AtomicU64,
}

impl Report {
    /// An empty report.
    pub fn new(run: RunId) -> Self {
        Self {
            run,
            counters: Mutex::default(),
            listing: ListingCost::default(),
            shards: (AtomicU64::new(0), AtomicU64::new(0)),
            waiting: Mutex::default(),
            written: AtomicU64::new(0),
        }
    }

    /// Counts.
    pub fn count(&self, f: impl FnOnce(&mut Counters)) {
        f(&mut self.counters.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// The counters so far.
    pub fn counters(&self) -> Counters {
        let mut counters = *self.counters.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        counters.listed = self.listing.objects.load(Ordering::Relaxed);
        counters.list_requests = self.listing.requests.load(Ordering::Relaxed);
        counters
    }

    /// How many findings there are so far.
    pub fn findings(&self) -> u64 {
        let waiting = self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.written.load(Ordering::Relaxed) + waiting.len() as u64
    }

    /// Notes findings, and writes a batch when there are enough.
    pub async fn find(
        &self,
        app: &App,
        findings: impl IntoIterator<Item = Finding>,
    ) -> Result<(), DbError> {
        let full = {
            let mut waiting =
                self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            waiting.extend(findings);
            if waiting.len() < BATCH { Vec::new() } else { std::mem::take(&mut *waiting) }
        };
        self.write(app, full).await
    }

    /// Writes the findings that are left.
    pub async fn flush(&self, app: &App) -> Result<(), DbError> {
        let rest = {
            let mut waiting =
                self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            std::mem::take(&mut *waiting)
        };
        self.write(app, rest).await
    }

    async fn write(&self, app: &App, findings: Vec<Finding>) -> Result<(), DbError> {
        let first = self.written.fetch_add(findings.len() as u64, Ordering::SeqCst);
        app.db.add_findings(self.run, first, &findings).await
    }
}

/// What a row's state is worth reporting as, whoever brought it there.
pub fn finding_of(upload: &Upload, now: Timestamp) -> Option<Finding> {
    let (kind, detail) = match &upload.state {
        State::Missing(_) => (FindingKind::Missing, None),
        State::Rejected { .. } if upload.deletion.done.is_some() => return None,
        State::Rejected { reason: RejectReason::Overwritten, .. } => {
            (FindingKind::Overwritten, None)
        }
        State::Rejected { reason, .. } => (FindingKind::Rejected, Some(reason.name().to_owned())),
        State::Uploaded(verified) if verified.late => (FindingKind::Late, None),
        _ => return None,
    };
    Some(Finding {
        kind,
        policy: upload.policy.clone(),
        key: upload.key.as_str().to_owned(),
        upload: Some(upload.id),
        size: upload.state.facts().map(|facts| facts.size),
        detail,
        found_at: now,
    })
}
