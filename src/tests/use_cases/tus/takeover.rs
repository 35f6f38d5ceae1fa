//! One request writes at a time, and the newest request has priority.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

use upload_coordinator::app::App;
use upload_coordinator::app::tus::TusError;
use upload_coordinator::domain::Status;
use upload_coordinator::storage::memory::Operation;

use super::{
    PART, append, at, begin, hanging, is_complete, refused, resume, send, tails, to_usize, whole,
};
use crate::support::mp3;
use crate::support::wait::wait_for;
use crate::support::world::World;

/// Starts a task with a request that hangs after some bytes, and returns when it has the lease.
async fn hang(
    world: &Arc<World>,
    app: Arc<App>,
    id: upload_coordinator::domain::UploadId,
    offset: usize,
    bytes: Vec<u8>,
) -> tokio::task::JoinHandle<Result<u64, TusError>> {
    let (world, reads) = (world.clone(), Arc::new(AtomicBool::new(false)));
    let read = reads.clone();
    let body = hanging(&bytes).inspect(move |_| read.store(true, Ordering::Relaxed));
    let task = tokio::spawn(async move {
        match append(&app, &world, id, at(offset, None), Box::pin(body)).await {
            Ok(done) => Ok(done.stored),
            other => Err(refused(other)),
        }
    });
    wait_for("the writer", async || reads.load(Ordering::Relaxed).then_some(())).await;
    task
}

#[tokio::test]
async fn a_newer_request_keeps_all_bytes_of_a_writer_that_hangs_in_another_process() {
    let world = Arc::new(World::new().await);
    let (one, other) = (world.app.clone(), Arc::new(world.replica().await));
    let file = mp3(9 * PART, 1);
    let id = begin(&world, Some(file.len())).await;
    // The bytes are enough for a part and a tail.
    let hung = hang(&world, one.clone(), id, 0, file[..2 * PART + 77].to_vec()).await;
    wait_for("the first part", async || {
        let found = world.app.db.tus().find(id).await.unwrap().unwrap();
        (found.stored > 0).then_some(())
    })
    .await;
    let began = Instant::now();
    let now = resume(&other, &world, id).await.unwrap();
    assert_eq!(to_usize(now.stored), 2 * PART + 77);
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "shorter than a lease: {:?}",
        began.elapsed()
    );
    assert_eq!(hung.await.unwrap(), Err(TusError::Busy));
    // Now the writer hangs in the other process, and a PATCH takes over instead of a HEAD.
    let offset = 2 * PART + 77;
    let hung = hang(&world, other.clone(), id, offset, file[offset..offset + 50].to_vec()).await;
    let stored = offset as u64 + 50;
    let early = refused(send(&world, id, offset, &file[offset..]).await);
    assert_eq!(early, TusError::Offset { stored });
    assert_eq!(hung.await.unwrap(), Err(TusError::Busy));
    let now = to_usize(resume(&one, &world, id).await.unwrap().stored);
    assert_eq!(now, offset + 50);
    send(&world, id, now, &file[now..]).await.unwrap();
    is_complete(&world, id, &file).await;
}

#[tokio::test]
async fn a_process_that_is_killed_loses_nothing_that_was_acknowledged() {
    let world = Arc::new(World::new().await);
    let file = mp3(9 * PART, 1);
    let id = begin(&world, Some(file.len())).await;
    send(&world, id, 0, &file[..100]).await.unwrap();
    let killed =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (url, app, shared) = (world.database_url().to_owned(), world.app.clone(), world.clone());
    let bytes = file[100..3 * PART].to_vec();
    killed.spawn(async move {
        let db = crate::support::database::open(&url).await;
        let app = crate::support::app::replica_of(&app, db);
        append(&app, &shared, id, at(100, None), hanging(&bytes)).await.ok();
    });
    wait_for("its part", async || {
        let found = world.app.db.tus().find(id).await.unwrap().unwrap();
        (found.stored > 100).then_some(())
    })
    .await;
    killed.shutdown_background();
    // The lease expires.
    let now = to_usize(resume(&world.app, &world, id).await.unwrap().stored);
    assert!(now >= 2 * PART, "{now}");
    send(&world, id, now, &file[now..]).await.unwrap();
    is_complete(&world, id, &file).await;
}

#[tokio::test]
async fn only_the_newest_of_many_requests_writes() {
    let world = Arc::new(World::new().await);
    let file = mp3(3 * PART, 1);
    let id = begin(&world, Some(file.len())).await;
    let gate = world.store.hold(Operation::UploadPart);
    let first = {
        let (world, file) = (world.clone(), file.clone());
        tokio::spawn(async move {
            append(&world.app, &world, id, at(0, None), whole(&file)).await.map(|done| done.stored)
        })
    };
    gate.next_call().await;
    let others: Vec<_> = (0..3)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { resume(&world.app, &world, id).await.map(|now| now.stored) })
        })
        .collect();
    wait_for("all requests", async || {
        let claim = world.app.db.tus().claim(id, Duration::from_secs(5)).await.unwrap().unwrap();
        assert_eq!(claim.taken, None, "the writer has the lease");
        (claim.number > 4).then_some(())
    })
    .await;
    gate.open();
    first.await.unwrap().ok();
    for other in others {
        // Each waits for a while. It then learns that a newer request exists, or that the file is
        // complete.
        match other.await.unwrap() {
            Ok(stored) => assert_eq!(stored, file.len() as u64),
            Err(error) => assert_eq!(error.to_string(), TusError::Busy.to_string()),
        }
    }
    let now = resume(&world.app, &world, id).await.unwrap();
    if now.upload.status() == Status::Pending {
        send(&world, id, to_usize(now.stored), &file[to_usize(now.stored)..]).await.unwrap();
    }
    is_complete(&world, id, &file).await;
    assert_eq!(tails(&world), Vec::<String>::new());
}
