//! How messages are handled: valid and invalid ones, and while the store or the queue is down.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Notify;
use upload_coordinator::domain::upload::ConfirmedBy;
use upload_coordinator::domain::{Status, Upload};
use upload_coordinator::storage::StoreError;
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::queue::{Message, Queue, QueueError, QueueState, Result};
use upload_coordinator::workers::bucket_events::{Batch, BucketEvents};

use super::{created, envelopes, test_event};
use crate::support::ID3;
use crate::support::world::World;

#[derive(Default)]
struct Fake {
    waiting: Mutex<VecDeque<String>>,
    deleted: Mutex<Vec<String>>,
    postponed: Mutex<Vec<(String, Duration)>>,
    redrives: bool,
    broken: Option<fn() -> QueueError>,
    receive_calls: AtomicU64,
    bell: Notify,
}

impl Fake {
    fn send(&self, body: impl ToString) {
        self.waiting.lock().unwrap().push_back(body.to_string());
    }

    fn deleted(&self) -> usize {
        self.deleted.lock().unwrap().len()
    }
}

#[async_trait]
impl Queue for Fake {
    async fn receive(&self) -> Result<Vec<Message>> {
        self.receive_calls.fetch_add(1, Ordering::SeqCst);
        self.bell.notify_one();
        if let Some(error) = self.broken {
            return Err(error());
        }
        let mut waiting = self.waiting.lock().unwrap();
        let take = waiting.len().min(10);
        let message =
            |body: String| Message { id: "id".into(), receipt: body.clone(), body, receives: 3 };
        Ok(waiting.drain(..take).map(message).collect())
    }

    async fn delete(&self, receipts: &[String]) -> Result<usize> {
        self.deleted.lock().unwrap().extend_from_slice(receipts);
        Ok(0)
    }

    async fn postpone(&self, receipt: &str, pause: Duration) -> Result<()> {
        self.postponed.lock().unwrap().push((receipt.to_owned(), pause));
        Ok(())
    }

    async fn state(&self) -> Result<QueueState> {
        Ok(QueueState { waiting: 0, in_flight: 0, redrives: self.redrives })
    }
}

const POISON: [&str; 4] = ["", "{\"Records\": 7}", "not JSON", "[[[[[[[[[[[[[[[[["];

fn worker(world: &World, fake: Fake) -> (BucketEvents, Arc<Fake>) {
    let fake = Arc::new(fake);
    (BucketEvents::new(world.app.clone(), fake.clone()), fake)
}

async fn arrived(world: &World) -> Upload {
    let upload = world.upload().await;
    world.put(&upload, ID3).await;
    upload
}

#[tokio::test]
async fn every_envelope_is_handled_and_its_message_is_deleted() {
    let world = World::new().await;
    let (worker, fake) = worker(&world, Fake::default());
    let mut uploads = Vec::new();
    for n in 0..4 {
        let upload = arrived(&world).await;
        let message = envelopes("memory", upload.key.as_str()).swap_remove(n);
        fake.send(&message);
        fake.send(message);
        uploads.push(upload);
    }
    let handled = Batch { handled: 8, ..Batch::default() };
    assert_eq!(worker.handle_batch().await.unwrap(), handled);
    assert_eq!(fake.deleted(), 8, "duplicates are deleted too");
    for upload in uploads {
        let seen = world.get(upload.id).await;
        assert_eq!(seen.status(), Status::Uploaded);
        assert_eq!(seen.state.verified().map(|v| v.confirmed_by), Some(ConfirmedBy::Event));
    }
}

#[tokio::test]
async fn test_events_and_events_of_foreign_objects_are_deleted() {
    let world = World::new().await;
    let (worker, fake) = worker(&world, Fake::default());
    fake.send(test_event());
    for message in envelopes("another", "tracks/x").into_iter().chain(envelopes("memory", "x")) {
        fake.send(message);
    }
    assert_eq!(worker.handle_batch().await.unwrap().handled, 9);
    assert_eq!(fake.deleted(), 9);
}

#[tokio::test]
async fn a_message_that_is_no_event_is_deleted_or_left_to_the_redrive_policy_and_blocks_no_other() {
    for redrives in [false, true] {
        let world = World::new().await;
        let (worker, fake) = worker(&world, Fake { redrives, ..Fake::default() });
        let upload = arrived(&world).await;
        for poison in POISON {
            fake.send(poison);
        }
        fake.send(created("memory", upload.key.as_str()));
        let batch = worker.handle_batch().await.unwrap();
        assert_eq!(batch, Batch { handled: 1, poison: 4, postponed: 0 });
        assert_eq!(world.get(upload.id).await.status(), Status::Uploaded);
        assert_eq!(fake.deleted(), if redrives { 1 } else { 5 });
        assert!(fake.postponed.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn while_the_store_is_down_only_the_messages_that_need_it_are_postponed() {
    let world = World::new().await;
    let (worker, fake) = worker(&world, Fake::default());
    let upload = arrived(&world).await;
    let message = created("memory", upload.key.as_str());
    fake.send(&message);
    fake.send(test_event());
    world.store.fail_next(Operation::Head, 1, || StoreError::Unavailable("down".into()));
    let batch = worker.handle_batch().await.unwrap();
    assert_eq!(batch, Batch { handled: 1, poison: 0, postponed: 1 });
    assert_eq!(*fake.deleted.lock().unwrap(), [test_event().to_string()]);
    let postponed = fake.postponed.lock().unwrap().clone();
    assert_eq!(
        postponed,
        [(message.to_string(), Duration::from_secs(20))],
        "the pause after its third receipt"
    );
    fake.send(&message);
    assert_eq!(worker.handle_batch().await.unwrap().handled, 1);
    assert_eq!(world.get(upload.id).await.status(), Status::Uploaded);
}

#[tokio::test]
async fn a_queue_that_is_down_is_called_less_and_less_often_and_the_worker_stops() {
    let world = World::new().await;
    let broken: fn() -> QueueError = || QueueError::NoSuchQueue("gone".into());
    let (worker, fake) = worker(&world, Fake { broken: Some(broken), ..Fake::default() });
    let begun = Instant::now();
    let running = worker.start(1);
    while fake.receive_calls.load(Ordering::SeqCst) < 3 {
        fake.bell.notified().await;
    }
    // The pauses are 1 s and 2 s, and jitter can halve them: at least 0.5 s + 1 s.
    assert!(begun.elapsed() >= Duration::from_millis(1500), "{:?}", begun.elapsed());
    let start = Instant::now();
    running.stop(Duration::from_secs(20)).await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
