//! Reads reconciliation runs and their findings, for administrators.

use super::{App, AppError, Result};
use crate::db::{Cursor, Page};
use crate::domain::RunId;
use crate::domain::run::{FindingKind, Mode, Progress, Run, StoredFinding};

impl App {
    /// One run with its counters so far, whatever its mode.
    pub async fn run(&self, id: RunId) -> Result<Run> {
        self.db.runs().find(id).await?.ok_or(AppError::NotFound("run"))
    }

    /// One run of these modes, with its counters so far.
    pub async fn run_of(&self, id: RunId, modes: &[Mode]) -> Result<Run> {
        let run = self.run(id).await?;
        if modes.contains(&run.request.mode) { Ok(run) } else { Err(AppError::NotFound("run")) }
    }

    /// One run with the number of its findings and shards.
    pub async fn run_progress(&self, id: RunId) -> Result<Progress> {
        self.db.runs().progress(id).await?.ok_or(AppError::NotFound("run"))
    }

    /// A page of runs of these modes, newest first.
    pub async fn list_runs(
        &self,
        modes: &[Mode],
        cursor: Option<&Cursor>,
        limit: u64,
    ) -> Result<Page<Run>> {
        Ok(self.db.runs().list(modes, cursor, limit).await?)
    }

    /// A page of a run's findings, of one kind or of all.
    pub async fn list_findings(
        &self,
        id: RunId,
        kind: Option<FindingKind>,
        cursor: Option<&Cursor>,
        limit: u64,
    ) -> Result<Page<StoredFinding>> {
        let run = self.run(id).await?;
        Ok(self.db.findings().list(&run, kind, cursor, limit).await?)
    }
}
