//! The harmful part of a run: absences of verified uploads, and deletions. Both are held
//! back until it is known how many there are; one is news, thousands are a wrong bucket.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::{FutureExt as _, StreamExt as _, stream};

use super::marker::{self, Trust};
use super::worker::{BATCH, WorkError, Worker};
use crate::app::AppError;
use crate::domain::transition::{Event, Step, step};
use crate::domain::{Status, Timestamp, Upload};

/// A run that would end or delete no more than this is never stopped.
const HARMLESS: u64 = 100;

/// What is held back.
pub(super) struct Held {
    trust: Trust,
    /// How many ends of verified uploads, and deletions, are too many.
    threshold: u64,
    /// Proven absences of verified uploads.
    missing: Mutex<Vec<(Upload, Event)>>,
    /// In a dry run: what a real one would have made due for deletion.
    dry_due: Mutex<Vec<Upload>>,
    /// An absence that was not believed.
    doubted: Mutex<Option<String>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    pub(super) fn new(trust: Trust, rows: u64) -> Self {
        Self {
            trust,
            threshold: HARMLESS.max(rows / 100),
            missing: Mutex::default(),
            dry_due: Mutex::default(),
            doubted: Mutex::default(),
        }
    }

    /// Notes what a step in a dry run would have left to delete.
    pub(super) fn note_dry(&self, step: &Step, now: Timestamp) {
        if step.changed && step.upload.deletion.is_due(now) {
            lock(&self.dry_due).push(step.upload.clone());
        }
    }
}

impl Worker<'_> {
    /// Keeps the loss of a verified object for later. Where nobody knows whose bucket this
    /// is, no absence is believed at all.
    pub(super) fn hold_back(
        &self,
        upload: Upload,
        event: Event,
    ) -> Result<Option<(Upload, Event)>, WorkError> {
        if !matches!(event, Event::Absent(_)) {
            return Ok(Some((upload, event)));
        }
        if let Trust::Doubtful(why) = &self.held.trust {
            let now = self.app.now();
            let step = step(upload, event, now, self.policy).map_err(AppError::from)?;
            if step.changed {
                let mut doubted = lock(&self.held.doubted);
                doubted.get_or_insert_with(|| format!("an object is not there, but {why}"));
            }
            return Ok(None);
        }
        if upload.status() != Status::Uploaded {
            return Ok(Some((upload, event)));
        }
        let count = {
            let mut missing = lock(&self.held.missing);
            missing.push((upload, event));
            missing.len() as u64
        };
        self.check_damage(count)?;
        Ok(None)
    }

    fn check_damage(&self, count: u64) -> Result<(), WorkError> {
        if count <= self.held.threshold || self.request.force {
            return Ok(());
        }
        Err(WorkError::Stopped(format!(
            "policy `{}`: more than {} objects would be marked missing or deleted; \
             `--force` does it",
            self.policy.name, self.held.threshold
        )))
    }

    /// Asks again whose bucket this is: a run takes long enough for a bucket to be taken
    /// away or exchanged under it, and a HEAD in a bucket that is gone shows absence.
    pub(super) async fn check_trust(&self, what: &str) -> Result<(), WorkError> {
        let still = match &self.held.trust {
            Trust::Ours => {
                let (app, dry_run) = (self.app, self.request.dry_run);
                marker::check(app, self.policy, self.store, false, dry_run).await?
            }
            doubtful @ Trust::Doubtful(_) => doubtful.clone(),
        };
        match still {
            Trust::Ours => Ok(()),
            Trust::Doubtful(why) => Err(WorkError::Stopped(format!("{what}, but {why}"))),
        }
    }

    /// The harmful part, when all of it is known.
    pub(super) async fn end_missing_and_delete(&self) -> Result<(), WorkError> {
        let missing = std::mem::take(&mut *lock(&self.held.missing));
        let due = self.due().await?;
        self.check_damage((missing.len() + due.len()) as u64)?;
        if !missing.is_empty() {
            self.check_trust("objects of verified uploads are missing").await?;
        }
        let mut missing = missing.into_iter();
        loop {
            let batch: Vec<_> = missing.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            self.apply(batch).await?;
        }
        if !due.is_empty() {
            self.check_trust("objects are due for deletion").await?;
            self.budget.fetch_sub(due.len() as u64, Ordering::Relaxed);
            for batch in due.chunks(BATCH) {
                self.delete(batch).await?;
            }
        }
        let doubted = lock(&self.held.doubted).take();
        doubted.map_or(Ok(()), |why| Err(WorkError::Stopped(why)))
    }

    /// What is due for deletion, as far as the budget goes.
    async fn due(&self) -> Result<Vec<Upload>, WorkError> {
        let budget = self.budget.load(Ordering::Relaxed);
        let now = self.app.now();
        let due = self.app.db.due_deletions(&self.policy.name, now, budget).await;
        let mut due = due.map_err(AppError::from)?;
        due.append(&mut lock(&self.held.dry_due));
        due.truncate(usize::try_from(budget).unwrap_or(usize::MAX));
        Ok(due)
    }

    /// Deletes objects of final rows. A final row never opens again and its key is its
    /// own, so nothing that is wanted can be hit, however late this comes.
    async fn delete(&self, batch: &[Upload]) -> Result<(), WorkError> {
        if self.request.dry_run {
            self.report.count(|counters| counters.deleted += batch.len() as u64);
            return Ok(());
        }
        let deletions = stream::iter(batch.to_vec()).map(|upload| {
            async move {
                self.pace.turn().await;
                let gone = self.store.objects.delete(upload.key.as_str()).await;
                (upload, gone)
            }
            .boxed()
        });
        let mut deletions = deletions.buffer_unordered(self.settings.concurrency);
        let mut gone = Vec::with_capacity(batch.len());
        while let Some((upload, result)) = deletions.next().await {
            match result {
                Ok(()) => gone.push((upload, Event::ObjectDeleted)),
                Err(error) => self.count_error(&upload, &error.into()),
            }
        }
        for applied in self.app.apply_many(gone).await? {
            let changed = applied?.changed;
            self.report.count(|counters| counters.deleted += u64::from(changed));
        }
        Ok(())
    }
}
