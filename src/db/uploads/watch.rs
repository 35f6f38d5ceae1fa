//! Changes of uploads, published to the callers that watch them.
//!
//! Commits of this process are published at once. Commits of other processes are found by polling
//! the database once a second: only while there are watchers, only for the ids that they watch, and
//! with one query for many ids. A watcher costs one entry here and no thread. A watcher that is too
//! slow is dropped; its changes are not buffered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use entity::upload::{self, Column};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use tokio::sync::broadcast::{self, Receiver, Sender};
use uuid::Uuid;

use crate::db::Result;
use crate::db::engine::pool::Engine;
use crate::domain::{ConcurrencyLimit, LimitReached, Owner, Permit, Upload, UploadId};

/// Interval at which the changes of other processes are read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Ids in one query.
const POLL_CHUNK: usize = 500;

/// The number of changes that a watcher may be behind. Most uploads change only a few times.
const BACKLOG: usize = 8;

/// The limit of watchers, in total and for each owner, unless another one is set.
const DEFAULT_LIMIT: usize = 10_000;

/// The watchers by upload.
pub(super) struct Watchers {
    topics: Mutex<Topics>,
    limit: Arc<ConcurrencyLimit>,
}

#[derive(Default)]
struct Topics {
    by_id: HashMap<Uuid, Topic>,
    polling: bool,
}

struct Topic {
    changes: Sender<Arc<Upload>>,
    /// The newest version that was published.
    version: i64,
}

impl Default for Watchers {
    fn default() -> Self {
        Self {
            topics: Mutex::default(),
            limit: ConcurrencyLimit::new(DEFAULT_LIMIT, DEFAULT_LIMIT).into(),
        }
    }
}

impl Watchers {
    fn topics(&self) -> MutexGuard<'_, Topics> {
        // The map is consistent between any two statements of its users, so a panic does no harm.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a committed change to its watchers.
    pub(super) fn publish(&self, upload: &Upload) {
        if let Some(topic) = self.topics().by_id.get_mut(&upload.id.0)
            && upload.version > topic.version
        {
            topic.version = upload.version;
            // Fails only if the last watcher is being dropped.
            let _ = topic.changes.send(Arc::new(upload.clone()));
        }
    }

    pub(super) fn set_limits(&self, total: usize, per_owner: usize) {
        self.limit.set_limits(total, per_owner);
    }

    pub(super) fn count(&self) -> usize {
        self.limit.in_use()
    }

    /// Ends all watches and refuses new ones.
    pub(super) fn end(&self) {
        self.set_limits(0, 0);
        let ended = std::mem::take(&mut self.topics().by_id);
        drop(ended);
    }

    fn versions(&self) -> Vec<(Uuid, i64)> {
        let topics = self.topics();
        topics.by_id.iter().map(|(id, topic)| (*id, topic.version)).collect()
    }
}

/// A watch on one upload. It ends when this value is dropped.
pub struct Watch {
    watchers: Arc<Watchers>,
    _permit: Permit,
    id: UploadId,
    changes: Receiver<Arc<Upload>>,
    seen: i64,
}

impl Watch {
    /// Records which version the watcher knows already.
    pub fn saw(&mut self, upload: &Upload) {
        self.seen = self.seen.max(upload.version);
        if let Some(topic) = self.watchers.topics().by_id.get_mut(&self.id.0) {
            topic.version = topic.version.max(self.seen);
        }
    }

    /// The next change. `None` if the watcher was too slow and must read the row again, or if the
    /// service shuts down.
    pub async fn next(&mut self) -> Option<Arc<Upload>> {
        loop {
            let upload = self.changes.recv().await.ok()?;
            if upload.version > self.seen {
                self.seen = upload.version;
                return Some(upload);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut topics = self.watchers.topics();
        let last = |topic: &Topic| topic.changes.receiver_count() <= 1;
        if topics.by_id.get(&self.id.0).is_some_and(last) {
            topics.by_id.remove(&self.id.0);
        }
    }
}

/// Watches an upload. Starts the task that polls the database for changes by other processes, if it
/// does not run.
pub(super) fn watch(
    watchers: &Arc<Watchers>,
    engine: &Engine,
    owner: &Owner,
    id: UploadId,
) -> Result<Watch, LimitReached> {
    let permit = watchers.limit.acquire(owner)?;
    let mut topics = watchers.topics();
    let fresh = || Topic { changes: broadcast::channel(BACKLOG).0, version: 0 };
    let changes = topics.by_id.entry(id.0).or_insert_with(fresh).changes.subscribe();
    if !std::mem::replace(&mut topics.polling, true) {
        tokio::spawn(poll(engine.clone(), Arc::clone(watchers)));
    }
    drop(topics);
    Ok(Watch { watchers: Arc::clone(watchers), _permit: permit, id, changes, seen: 0 })
}

/// Publishes the uploads whose version in the database is newer than the known one.
async fn publish_newer(engine: &Engine, watchers: &Watchers, known: &[(Uuid, i64)]) -> Result<()> {
    for chunk in known.chunks(POLL_CHUNK) {
        let known: HashMap<Uuid, i64> = chunk.iter().copied().collect();
        let versions: Vec<(Uuid, i64)> = upload::Entity::find()
            .select_only()
            .columns([Column::Id, Column::Version])
            .filter(Column::Id.is_in(known.keys().copied()))
            .into_tuple()
            .all(&engine.read)
            .await?;
        let newer = versions.into_iter().filter(|(id, version)| known.get(id) < Some(version));
        let newer: Vec<Uuid> = newer.map(|(id, _)| id).collect();
        if newer.is_empty() {
            continue;
        }
        let query = upload::Entity::find().filter(Column::Id.is_in(newer));
        for row in query.all(&engine.read).await? {
            watchers.publish(&row.try_into()?);
        }
    }
    Ok(())
}

/// Clears `polling` when it is dropped, so that the next watcher starts the task again even if the
/// task was cancelled.
struct Polling(Option<Arc<Watchers>>);

impl Drop for Polling {
    fn drop(&mut self) {
        if let Some(watchers) = self.0.take() {
            watchers.topics().polling = false;
        }
    }
}

/// Polls until the process has no watchers.
async fn poll(engine: Engine, watchers: Arc<Watchers>) {
    let mut polling = Polling(Some(Arc::clone(&watchers)));
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let known = watchers.versions();
        if known.is_empty() {
            let mut topics = watchers.topics();
            // Checked and reset under one lock, so that a later watcher starts a new task.
            if topics.by_id.is_empty() {
                topics.polling = false;
                polling.0 = None;
                return;
            }
        } else if let Err(error) = publish_newer(&engine, &watchers, &known).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "changes of other processes could not be read; the next attempt is in a second"
            );
        }
    }
}
