//! Cancels runs.

use super::Reconciler;
use super::summary::log_end;
use crate::app::AppError;
use crate::db::DbError;
use crate::domain::RunId;
use crate::domain::run::{Run, RunStatus};

/// Why a run was not cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// The run has already ended.
    #[error("the run has already ended with status {}", .0.name())]
    Ended(RunStatus),
    /// There is no such run, or the database failed.
    #[error(transparent)]
    App(#[from] AppError),
}

impl From<DbError> for CancelError {
    fn from(error: DbError) -> Self {
        Self::App(error.into())
    }
}

impl Reconciler {
    /// Cancels a run and returns it. The processes that work on it drop their work.
    pub async fn cancel(&self, id: RunId) -> Result<Run, CancelError> {
        let cancelled = self.app.db.runs().cancel(id, "cancelled on request", self.app.now());
        let Some(ended) = cancelled.await? else {
            return Err(CancelError::Ended(self.app.run(id).await?.status));
        };
        log_end(&ended);
        self.changed.notify_waiters();
        Ok(ended.run)
    }
}
