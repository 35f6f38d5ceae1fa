//! Long polls and event streams.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use upload_coordinator::app::{App, AppError};
use upload_coordinator::domain::{Owner, Status, Subject, Upload, UploadId};

use crate::support::served::Served;
use crate::support::wait::wait_for;
use crate::support::world::World;
use crate::support::{ID3, PNG};

const LONG: Duration = Duration::from_secs(50);

/// Starts a task that waits for a change, and returns when it is waiting.
async fn waiting(
    app: &Arc<App>,
    id: UploadId,
) -> tokio::task::JoinHandle<Result<Upload, AppError>> {
    let before = app.db.uploads().watchers();
    let waiter = Arc::clone(app);
    let task =
        tokio::spawn(async move { waiter.wait_for_upload(&Owner::anonymous(), id, LONG).await });
    until_waiting(app, before + 1).await;
    task
}

async fn until_waiting(app: &App, count: usize) {
    wait_for("the waiters", async || (app.db.uploads().watchers() >= count).then_some(())).await;
}

#[tokio::test]
async fn a_waiter_is_woken_at_once_by_a_change_of_this_process() {
    let world = World::new().await;
    let upload = world.upload().await;
    let waiter = waiting(&world.app, upload.id).await;
    world.put(&upload, ID3).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    let committed = Instant::now();
    let seen = waiter.await.unwrap().unwrap();
    assert_eq!(seen.status(), Status::Uploaded);
    assert!(committed.elapsed() < Duration::from_millis(500), "{:?}", committed.elapsed());
    assert_eq!(world.app.db.uploads().watchers(), 0);
}

#[tokio::test]
async fn a_change_of_another_process_wakes_a_waiter_within_about_a_second() {
    let world = World::new().await;
    let other = world.replica().await;
    let upload = world.upload().await;
    let waiter = waiting(&world.app, upload.id).await;
    world.put(&upload, ID3).await;
    other.confirm_upload(&world.owner, upload.id).await.unwrap();
    let committed = Instant::now();
    assert_eq!(waiter.await.unwrap().unwrap().status(), Status::Uploaded);
    assert!(committed.elapsed() < Duration::from_secs(5), "{:?}", committed.elapsed());
}

#[tokio::test]
async fn the_watcher_of_a_replaced_upload_is_notified_too() {
    let world = World::new().await;
    let subject = Subject::of_track(world.track().await.id);
    let new = || upload_coordinator::app::create_upload::NewUpload {
        attach_to: Some(subject.clone()),
        ..Default::default()
    };
    let (old, newer) = (world.create(new()).await, world.create(new()).await);
    world.put(&old, ID3).await;
    world.app.confirm_upload(&world.owner, old.id).await.unwrap();
    let mut followed = world.app.follow_upload(&world.owner, old.id).await.unwrap();
    let now = followed.next(None).await.unwrap();
    assert_eq!(now.status(), Status::Uploaded);
    world.put(&newer, ID3).await;
    world.app.confirm_upload(&world.owner, newer.id).await.unwrap();
    let next = followed.next(Some(&now)).await.unwrap();
    assert_eq!(next.status(), Status::Removed);
    assert!(followed.next(Some(&next)).await.is_none(), "no event follows a final state");
}

#[tokio::test]
async fn a_long_poll_without_a_change_returns_in_time() {
    let world = World::new().await;
    let upload = world.upload().await;
    let short = Duration::from_millis(30);
    let seen = world.app.wait_for_upload(&world.owner, upload.id, short).await;
    assert_eq!(seen.unwrap().status(), Status::Pending);
}

#[tokio::test]
async fn thousands_can_wait_and_one_above_the_limit_is_refused() {
    let world = World::new().await;
    let upload = world.upload().await;
    world.app.db.uploads().limit_watchers(3000, 3000);
    let mut waiters = tokio::task::JoinSet::new();
    for _ in 0..3000 {
        let (app, id) = (Arc::clone(&world.app), upload.id);
        waiters.spawn(async move { app.wait_for_upload(&Owner::anonymous(), id, LONG).await });
    }
    until_waiting(&world.app, 3000).await;
    let refused = world.app.wait_for_upload(&world.owner, upload.id, LONG).await;
    assert!(matches!(refused, Err(AppError::TooManyWaiters)), "{refused:?}");
    world.put(&upload, PNG).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    while let Some(waiter) = waiters.join_next().await {
        let seen = waiter.unwrap().unwrap();
        assert_eq!(seen.status(), Status::Rejected);
    }
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_disconnected() {
    let world = World::new().await;
    let upload = world.upload().await;
    let mut followed = world.app.follow_upload(&world.owner, upload.id).await.unwrap();
    let first = followed.next(None).await;
    for _ in 0..20 {
        let renewed = world.app.renew_upload(&world.owner, upload.id, Some(60)).await;
        renewed.unwrap();
        world.pass(chrono::TimeDelta::seconds(1));
    }
    assert!(followed.next(first.as_deref()).await.is_none());
}

#[tokio::test]
async fn a_shutdown_ends_all_waiting_requests() {
    let world = World::new().await;
    let upload = world.upload().await;
    let waiter = waiting(&world.app, upload.id).await;
    world.app.db.end();
    assert_eq!(waiter.await.unwrap().unwrap().status(), Status::Pending);
    let more = world.app.wait_for_upload(&world.owner, upload.id, LONG).await;
    assert!(matches!(more, Err(AppError::TooManyWaiters)), "{more:?}");
}

#[tokio::test]
async fn a_long_poll_over_http_returns_the_change() {
    let served = Served::new().await;
    let world = &served.world;
    let upload = world.upload().await;
    let path = format!("/api/uploads/{}?wait=50", upload.id);
    let poll = tokio::spawn(served.get(&path).send());
    until_waiting(&world.app, 1).await;
    world.put(&upload, ID3).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    let response: Value = poll.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(response["status"], "uploaded");
    let bad = served.get(&format!("/api/uploads/{}?wait=61", upload.id)).send().await;
    assert_eq!(bad.unwrap().status(), 400);
    world.app.db.uploads().limit_watchers(0, 0);
    let full = served.get(&path).send().await.unwrap();
    assert_eq!(full.status(), 503);
    assert!(full.headers().contains_key("retry-after"));
    served.stop().await;
}

#[tokio::test]
async fn a_stream_sends_the_state_and_each_change_and_ends_after_a_final_state() {
    let served = Served::new().await;
    let world = &served.world;
    let upload = world.upload().await;
    let path = format!("/api/uploads/{}/events", upload.id);
    let mut stream = served.get(&path).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let first = stream.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: status\nid: 1\ndata: {"), "{first:?}");
    world.put(&upload, ID3).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    let remaining = stream.text().await.unwrap();
    let data = remaining.lines().filter_map(|line| line.strip_prefix("data: "));
    let statuses: Vec<Value> =
        data.map(|data| serde_json::from_str::<Value>(data).unwrap()["status"].clone()).collect();
    assert_eq!(statuses, ["uploaded", "removed"]);
    let again = served.get(&path).header("last-event-id", "3").send().await.unwrap();
    assert_eq!(again.status(), 204, "a browser that reconnects stops");
    served.stop().await;
}
