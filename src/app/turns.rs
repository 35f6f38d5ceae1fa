//! Requests of this process that change the same row take turns. Each write checks the row's
//! version. Without turns, all but one of many concurrent writers would fail at each attempt. A
//! writer of another process can still be first. Then the write fails, and the writer calls
//! [`pause`] and tries again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::domain::backoff::Backoff;

/// How often a guarded write is attempted before the caller gets
/// [`AppError::Contended`](super::AppError::Contended): including the pauses, this takes a few
/// seconds.
pub(crate) const MAX_WRITES: usize = 24;

/// The longest pauses. Each pause is random, up to these values.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(4), longest: Duration::from_millis(250) };

type Lock = Arc<tokio::sync::Mutex<()>>;

/// The rows that are being changed or waited for.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<Uuid, Lock>>);

/// The turn of one writer of a row. It ends when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Turn<'a> {
    // Dropped first, before the entry in the queue.
    _locked: OwnedMutexGuard<()>,
    _entry: QueueEntry<'a>,
}

/// An entry in a row's queue. Dropping it removes the queue if it has no other entry.
#[derive(Debug)]
struct QueueEntry<'a> {
    turns: &'a Turns,
    id: Uuid,
    lock: Option<Lock>,
}

impl Turns {
    /// Waits until the earlier writers of the row with this id have ended.
    pub(crate) async fn wait(&self, id: Uuid) -> Turn<'_> {
        let lock = Arc::clone(self.queues().entry(id).or_default());
        let entry = QueueEntry { turns: self, id, lock: Some(Arc::clone(&lock)) };
        Turn { _locked: lock.lock_owned().await, _entry: entry }
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<Uuid, Lock>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for QueueEntry<'_> {
    fn drop(&mut self) {
        let mut queues = self.turns.queues();
        self.lock = None;
        if queues.get(&self.id).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            queues.remove(&self.id);
        }
    }
}

/// Waits before the next attempt of a write that failed `lost` times. After the first failure there
/// is no pause, because that attempt may have used a row that was read before the writer's turn.
pub(crate) async fn pause(lost: usize) {
    let Some(earlier) = lost.checked_sub(2) else { return };
    let longest = BACKOFF.pause(u32::try_from(earlier).unwrap_or(u32::MAX));
    let share = rand::rng().random_range(0.0..1.0);
    tokio::time::sleep(longest.mul_f64(share)).await;
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn writers_of_one_row_take_turns_and_leave_nothing_behind() {
        let turns = Turns::default();
        let (row, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = turns.wait(row).await;
        assert!(turns.wait(other).now_or_never().is_some(), "another row is free");
        // A waiting writer is dropped, as if its client had disconnected.
        assert!(turns.wait(row).now_or_never().is_none());
        let mut second = std::pin::pin!(turns.wait(row));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        let second = second.await;
        assert_eq!(turns.queues().len(), 1);
        drop(second);
        assert_eq!(turns.queues().len(), 0);
    }
}
