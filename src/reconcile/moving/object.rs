//! Moves one object.

use std::time::Duration;

use chrono::TimeDelta;

use super::{To, Worker};
use crate::app::AppError;
use crate::domain::detail::cut;
use crate::domain::transition::Relocation;
use crate::domain::upload::ObjectFacts;
use crate::domain::{ObjectKey, Upload};
use crate::storage::transfer::{
    Copied, Destination, Original, Sizes, TransferError, is_multipart, transfer,
};
use crate::storage::{ObjectMeta, StoreError};
use crate::telemetry::chain;

/// How often a transfer is tried if a store fails.
const MAX_ATTEMPTS: u32 = 3;

/// The pause after the first failure; it doubles.
const PAUSE: Duration = Duration::from_millis(500);

/// A multipart upload of a copy that is still open this long after its start is aborted.
const MAX_DURATION: TimeDelta = TimeDelta::days(7);

/// Why an object was not moved. The text is the detail of the finding.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotMoved {
    #[error("absent")]
    Absent,
    #[error("changed")]
    Changed,
    #[error("a copy of an earlier move is being deleted at the new location")]
    InDeletion,
    #[error("{0}")]
    Differs(String),
    #[error("{0}")]
    Failed(String),
}

impl NotMoved {
    pub(super) fn is_difference(&self) -> bool {
        matches!(self, Self::Differs(_))
    }

    fn failed(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Failed(cut(chain(error)))
    }
}

impl From<AppError> for NotMoved {
    fn from(error: AppError) -> Self {
        Self::failed(&error)
    }
}

impl From<StoreError> for NotMoved {
    fn from(error: StoreError) -> Self {
        Self::failed(&error)
    }
}

impl From<TransferError> for NotMoved {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Changed => Self::Changed,
            TransferError::Differs(what) => Self::Differs(what),
            TransferError::Store(error) => error.into(),
        }
    }
}

/// The move of one object.
pub(super) struct ObjectMove<'a> {
    pub(super) worker: &'a Worker<'a>,
    pub(super) to: &'a To,
    /// Whether an earlier attempt may have written the copy.
    pub(super) may_exist: bool,
    /// Whether the copy may be written, because no earlier copy is being deleted at its key.
    pub(super) is_free: bool,
}

impl ObjectMove<'_> {
    /// Copies the object, and returns the verified copy. A dry run only sends a HEAD.
    pub(super) async fn transfer(&self, upload: &Upload) -> Result<Relocation, NotMoved> {
        let worker = self.worker;
        let _permit = worker.transfers.permits.acquire().await;
        let facts = upload.state.facts().ok_or(NotMoved::Changed)?;
        let mut attempt = 1;
        loop {
            let copied = self.attempt(upload, facts).await;
            match copied {
                Err(NotMovedOrRetry::Retry(error)) if attempt < MAX_ATTEMPTS => {
                    tracing::warn!(upload = %upload.id, attempt,
                        error = &error as &dyn std::error::Error,
                        "an object was not copied; trying again");
                    tokio::time::sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
                    attempt += 1;
                }
                Err(NotMovedOrRetry::Retry(error)) => return Err(error.into()),
                Err(NotMovedOrRetry::NotMoved(why)) => return Err(why),
                Ok(copy) => return Ok(self.relocation(upload, facts, copy)),
            }
        }
    }

    /// One attempt. Returns the facts about the copy.
    async fn attempt(
        &self,
        upload: &Upload,
        facts: &ObjectFacts,
    ) -> Result<ObjectFacts, NotMovedOrRetry> {
        let worker = self.worker;
        worker.throttle.acquire().await;
        worker.progress.report.count(|counters| counters.head_requests += 1);
        let found = worker.target.store.objects.head(upload.key.as_str()).await?;
        let meta = found.ok_or(NotMoved::Absent)?;
        if meta.etag != facts.etag || meta.size != facts.size {
            return Err(NotMoved::Changed.into());
        }
        if worker.progress.run.request.dry_run {
            return Ok(facts.clone());
        }
        if !self.is_free {
            return Err(NotMoved::InDeletion.into());
        }
        let Copied { meta, checksum, .. } = self.copy(upload, facts, &meta).await?;
        let ObjectMeta { etag, version_id, size, content_type, .. } = meta;
        Ok(ObjectFacts { etag, version_id, size, content_type, checksum: Some(checksum) })
    }

    async fn copy(
        &self,
        upload: &Upload,
        facts: &ObjectFacts,
        meta: &ObjectMeta,
    ) -> Result<Copied, NotMovedOrRetry> {
        let (worker, app) = (self.worker, self.worker.target.app);
        let (sizes, key) = (Sizes::default(), self.key(upload));
        let store = worker.target.store;
        let from =
            Original { store, key: upload.key.as_str(), meta, recorded: facts.checksum.as_ref() };
        let to = Destination {
            store: &self.to.store,
            key: key.as_str(),
            object: &worker.target.policy.object,
            may_exist: self.may_exist,
        };
        let memory = &worker.transfers.memory;
        if !is_multipart(&from, &to, &sizes) {
            return Ok(transfer(&from, &to, memory, &sizes).await?);
        }
        // If this process crashes during the transfer, a run finds the multipart upload by this
        // record and aborts it.
        let (token, due) = (app.ids.uuid(), app.now() + MAX_DURATION);
        let at_destination =
            Upload { location: self.to.location.number, key: key.clone(), ..upload.clone() };
        let aborts = app.db.multipart_aborts();
        let intent =
            aborts.create_intent(&at_destination, token, due).await.map_err(AppError::from);
        let intent = intent.map_err(NotMoved::from)?;
        let copied = transfer(&from, &to, memory, &sizes).await;
        // After an error the parts may still be in the store, so the abort is due at once.
        let settled = match &copied {
            Ok(_) => aborts.complete(&intent).await,
            Err(_) => aborts.postpone(&intent, app.now()).await,
        };
        settled.map_err(AppError::from).map_err(NotMoved::from)?;
        Ok(copied?)
    }

    fn relocation(&self, upload: &Upload, facts: &ObjectFacts, copy: ObjectFacts) -> Relocation {
        Relocation {
            from: upload.location,
            etag: facts.etag.clone(),
            to: self.to.location.number,
            key: self.key(upload),
            facts: copy,
        }
    }

    fn key(&self, upload: &Upload) -> ObjectKey {
        self.to.location.prefix.key(upload.id)
    }
}

/// Why an attempt failed.
enum NotMovedOrRetry {
    NotMoved(NotMoved),
    /// A store failed, and may work again soon.
    Retry(StoreError),
}

impl From<NotMoved> for NotMovedOrRetry {
    fn from(why: NotMoved) -> Self {
        Self::NotMoved(why)
    }
}

impl From<StoreError> for NotMovedOrRetry {
    fn from(error: StoreError) -> Self {
        if error.is_temporary() { Self::Retry(error) } else { Self::NotMoved(error.into()) }
    }
}

impl From<TransferError> for NotMovedOrRetry {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Store(error) => error.into(),
            error => Self::NotMoved(error.into()),
        }
    }
}
