//! News of uploads for those who wait for them.
//!
//! Every commit of this process is told at once. What other processes commit is found by
//! asking the database once a second, only while somebody waits and only for the ids that
//! are waited for: one query for many. A waiter costs an entry here and no thread; one
//! that does not keep up is dropped instead of being buffered for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use entity::upload::{self, Column};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use tokio::sync::broadcast::{self, Receiver, Sender};
use uuid::Uuid;

use super::Uploads;
use crate::db::{Db, Result};
use crate::domain::{ConcurrencyLimit, LimitReached, Owner, Permit, Upload, UploadId};

/// How often other processes' changes are asked for.
const POLL: Duration = Duration::from_secs(1);

/// How many ids one query asks about.
const POLL_CHUNK: usize = 500;

/// How many changes a waiter may be behind. An upload changes a handful of times.
const BACKLOG: usize = 8;

/// How many may wait where no other limit is set.
const DEFAULT_LIMIT: usize = 10_000;

/// Who waits for what.
pub(in crate::db) struct Changes {
    topics: Mutex<Topics>,
    limit: Arc<ConcurrencyLimit>,
}

#[derive(Default)]
struct Topics {
    by_id: HashMap<Uuid, Topic>,
    polling: bool,
}

struct Topic {
    news: Sender<Arc<Upload>>,
    /// The newest version that was told.
    version: i64,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            topics: Mutex::default(),
            limit: ConcurrencyLimit::new(DEFAULT_LIMIT, DEFAULT_LIMIT).into(),
        }
    }
}

impl Changes {
    fn topics(&self) -> MutexGuard<'_, Topics> {
        // The map is sound between any two statements of its users.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a committed change to those who wait for it.
    pub(in crate::db) fn publish(&self, upload: &Upload) {
        if let Some(topic) = self.topics().by_id.get_mut(&upload.id.0)
            && upload.version > topic.version
        {
            topic.version = upload.version;
            // Fails only when the last waiter is just leaving.
            let _ = topic.news.send(Arc::new(upload.clone()));
        }
    }

    fn versions(&self) -> Vec<(Uuid, i64)> {
        let topics = self.topics();
        topics.by_id.iter().map(|(id, topic)| (*id, topic.version)).collect()
    }
}

/// A place among those who wait for one upload; leaving it is dropping this.
pub struct Watch {
    changes: Arc<Changes>,
    _permit: Permit,
    id: UploadId,
    news: Receiver<Arc<Upload>>,
    seen: i64,
}

impl Watch {
    /// Says which version the waiter knows already.
    pub fn saw(&mut self, upload: &Upload) {
        self.seen = self.seen.max(upload.version);
        if let Some(topic) = self.changes.topics().by_id.get_mut(&self.id.0) {
            topic.version = topic.version.max(self.seen);
        }
    }

    /// The next change; `None` for a waiter that missed so many that it has to begin afresh,
    /// and once the service is about to end.
    pub async fn next(&mut self) -> Option<Arc<Upload>> {
        loop {
            let upload = self.news.recv().await.ok()?;
            if upload.version > self.seen {
                self.seen = upload.version;
                return Some(upload);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut topics = self.changes.topics();
        let last = |topic: &Topic| topic.news.receiver_count() <= 1;
        if topics.by_id.get(&self.id.0).is_some_and(last) {
            topics.by_id.remove(&self.id.0);
        }
    }
}

impl Uploads<'_> {
    /// How many may wait at once, and how many of one owner.
    pub fn limit_watchers(self, limit: usize, share: usize) {
        self.0.changes.limit.set_limits(limit, share);
    }

    /// Sends all who wait away, and takes no more.
    pub(in crate::db) fn end_watches(self) {
        self.limit_watchers(0, 0);
        let ended = std::mem::take(&mut self.0.changes.topics().by_id);
        drop(ended);
    }

    /// How many wait now.
    pub fn watchers(self) -> usize {
        self.0.changes.limit.in_use()
    }

    /// Takes an owner's place among those who wait for an upload. Read the row after this, and
    /// no change is missed.
    pub fn watch(self, owner: &Owner, id: UploadId) -> Result<Watch, LimitReached> {
        let permit = self.0.changes.limit.acquire(owner)?;
        let mut topics = self.0.changes.topics();
        let fresh = || Topic { news: broadcast::channel(BACKLOG).0, version: 0 };
        let news = topics.by_id.entry(id.0).or_insert_with(fresh).news.subscribe();
        if !std::mem::replace(&mut topics.polling, true) {
            tokio::spawn(poll(self.0.clone()));
        }
        drop(topics);
        Ok(Watch { changes: Arc::clone(&self.0.changes), _permit: permit, id, news, seen: 0 })
    }

    /// Tells what other processes have committed since.
    async fn tell_others_changes(self, known: &[(Uuid, i64)]) -> Result<()> {
        for chunk in known.chunks(POLL_CHUNK) {
            let known: HashMap<Uuid, i64> = chunk.iter().copied().collect();
            let versions: Vec<(Uuid, i64)> = upload::Entity::find()
                .select_only()
                .columns([Column::Id, Column::Version])
                .filter(Column::Id.is_in(known.keys().copied()))
                .into_tuple()
                .all(&self.0.read)
                .await?;
            let newer = versions.into_iter().filter(|(id, version)| known.get(id) < Some(version));
            let newer: Vec<Uuid> = newer.map(|(id, _)| id).collect();
            if newer.is_empty() {
                continue;
            }
            let query = upload::Entity::find().filter(Column::Id.is_in(newer));
            for row in query.all(&self.0.read).await? {
                self.0.changes.publish(&row.try_into()?);
            }
        }
        Ok(())
    }
}

/// Lets the next waiter begin asking again, also when the task is cut off.
struct Asking(Option<Arc<Changes>>);

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(changes) = self.0.take() {
            changes.topics().polling = false;
        }
    }
}

/// Asks as long as the process has waiters, and once more.
async fn poll(db: Db) {
    let mut asking = Asking(Some(Arc::clone(&db.changes)));
    loop {
        tokio::time::sleep(POLL).await;
        let known = db.changes.versions();
        if known.is_empty() {
            let mut topics = db.changes.topics();
            // Under the lock: whoever comes after this starts the next one.
            if topics.by_id.is_empty() {
                topics.polling = false;
                asking.0 = None;
                return;
            }
        } else if let Err(error) = db.uploads().tell_others_changes(&known).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "other processes' changes not read; asked again in a second"
            );
        }
    }
}
