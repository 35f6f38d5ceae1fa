//! How uploads in pieces end (verified, rejected, deleted, expired), and what remains of them.

use std::sync::Arc;

use bytes::Bytes;
use chrono::TimeDelta;
use upload_coordinator::app::AppError;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::direct_upload::SentFile;
use upload_coordinator::app::tus::TusError;
use upload_coordinator::db::uploads::Quota;
use upload_coordinator::domain::run::{Mode, RunStatus};
use upload_coordinator::domain::upload::{Declared, Strategy};
use upload_coordinator::domain::{RejectReason, Status};
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::{ObjectStore as _, PutOptions, StoreError};

use super::{
    PART, append, at, begin, hanging, is_complete, nothing_is_left, open_multiparts, refused,
    resume, send, tails, to_usize, whole,
};
use crate::support::wait::wait_for;
use crate::support::world::World;
use crate::support::{PNG, mp3};

#[tokio::test]
async fn the_next_request_recovers_from_a_lost_response_to_the_last_bytes() {
    for (size, operation) in [(PART, Operation::Put), (5 * PART, Operation::CompleteMultipart)] {
        let world = World::new().await;
        let file = mp3(size, 1);
        let id = begin(&world, Some(size)).await;
        world.store.lose_next(operation, 1);
        assert!(send(&world, id, 0, &file).await.is_err());
        let now = resume(&world.app, &world, id).await.unwrap();
        if now.upload.status() == Status::Pending {
            // The file fits into one PUT, so the client sends it again.
            assert_eq!(now.stored, 0);
            send(&world, id, 0, &file).await.unwrap();
        }
        is_complete(&world, id, &file).await;
        let again = resume(&world.app, &world, id).await.unwrap();
        assert_eq!((again.stored, again.length), (size as u64, Some(size as u64)));
        let repeated = send(&world, id, size, b"").await.unwrap();
        assert_eq!(repeated.stored, size as u64);
        assert_eq!(
            refused(send(&world, id, 0, &file).await),
            TusError::Offset { stored: size as u64 }
        );
    }
}

#[tokio::test]
async fn a_file_that_breaks_a_rule_is_rejected_by_its_last_bytes() {
    for size in [PNG.len(), PNG.len() - 1] {
        let world = World::new().await;
        let id = begin(&world, Some(PNG.len())).await;
        let mut done = send(&world, id, 0, &PNG[..size]).await.unwrap();
        if size < PNG.len() {
            assert_eq!(done.upload.status(), Status::Pending);
            done = send(&world, id, size, &PNG[size..]).await.unwrap();
        }
        assert_eq!(done.upload.state.reason(), Some(RejectReason::ContentMismatch.name()));
        nothing_is_left(&world, id).await;
        let result = resume(&world.app, &world, id).await;
        assert_eq!(refused(result), TusError::Ended(Status::Rejected));
    }
}

#[tokio::test]
async fn a_deleted_upload_leaves_nothing_and_its_writer_stops() {
    let world = Arc::new(World::new().await);
    let id = begin(&world, Some(9 * PART)).await;
    send(&world, id, 0, &mp3(PART + 10, 1)).await.unwrap();
    send(&world, id, PART + 10, &mp3(10, 1)).await.unwrap();
    assert_eq!((tails(&world).len(), open_multiparts(&world).await), (1, 1));
    let writing = {
        let world = world.clone();
        tokio::spawn(async move {
            let offset = PART + 20;
            append(&world.app, &world, id, at(offset, None), hanging(&mp3(50, 1))).await
        })
    };
    wait_for("the writer", async || {
        let claim = world.app.db.tus().claim(id, std::time::Duration::ZERO).await.unwrap().unwrap();
        claim.taken.is_none().then_some(())
    })
    .await;
    world.app.end_tus(&world.owner, id).await.unwrap();
    let stopped = refused(writing.await.unwrap());
    assert!(matches!(stopped, TusError::Ended(_) | TusError::Busy), "{stopped:?}");
    let result = world.app.end_tus(&world.owner, id).await;
    assert!(matches!(result, Err(AppError::Tus(TusError::Ended(Status::Cancelled)))));
    assert_eq!(refused(send(&world, id, 0, b"x").await), TusError::Ended(Status::Cancelled));
    // An audit deletes what the writer saved after the end of the upload.
    world.pass(TimeDelta::hours(1));
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
    nothing_is_left(&world, id).await;
}

#[tokio::test]
async fn an_upload_expires_after_its_last_request_and_its_tails_are_deleted() {
    let world = World::new().await;
    let id = begin(&world, Some(9 * PART)).await;
    let mut offset = 0;
    for _ in 0..4 {
        world.pass(TimeDelta::minutes(14));
        offset = to_usize(send(&world, id, offset, &mp3(PART, 1)).await.unwrap().stored);
        let before = world.get(id).await.url_expires_at;
        offset = to_usize(send(&world, id, offset, &mp3(5, 1)).await.unwrap().stored);
        assert_eq!(world.get(id).await.url_expires_at, before, "not one write for each request");
        world.reconcile(Mode::Incremental).await;
        assert_eq!(world.get(id).await.status(), Status::Pending);
    }
    assert_eq!(tails(&world).len(), 1);
    world.store.fail_next(Operation::Delete, 1, || StoreError::Unavailable("down".into()));
    world.pass_the_deadline();
    world.reconcile(Mode::Incremental).await;
    assert_eq!(world.get(id).await.status(), Status::Expired);
    assert_eq!(tails(&world).len(), 1, "the store failed");
    world.pass(TimeDelta::hours(7));
    world.reconcile(Mode::Incremental).await;
    nothing_is_left(&world, id).await;
    assert_eq!(refused(resume(&world.app, &world, id).await), TusError::Ended(Status::Expired));
    // There are no stored bytes to continue with.
    let renewed = world.app.renew_upload(&world.owner, id, None).await;
    assert!(matches!(renewed, Err(AppError::Invalid(_))), "{renewed:?}");
    let sent = world.app.upload_content(&world.owner, id, SentFile::default(), whole(b"x")).await;
    assert!(matches!(sent, Err(AppError::Invalid(_))), "{sent:?}");
}

#[tokio::test]
async fn an_audit_keeps_tails_that_are_needed_and_deletes_the_others() {
    let world = World::new().await;
    let file = mp3(2 * PART + 10, 1);
    let id = begin(&world, Some(file.len())).await;
    send(&world, id, 0, &file[..PART + 10]).await.unwrap();
    send(&world, id, PART + 10, &file[PART + 10..PART + 20]).await.unwrap();
    let needed = tails(&world);
    assert_eq!(needed.len(), 1);
    // Tails of a process that failed before its commit, and of an upload of another database.
    let upload = world.get(id).await;
    let mut puts = vec![upload.key.tail(999).unwrap()];
    puts.push(needed[0].replace(&id.to_string(), "0190a6f2-7b3c-7def-8123-456789abcdef"));
    for key in &puts {
        world.store.put(key, Bytes::from_static(b"x"), &PutOptions::default()).await.unwrap();
    }
    world.pass(TimeDelta::minutes(16));
    send(&world, id, PART + 20, &file[PART + 20..PART + 30]).await.unwrap();
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!(run.counters.orphans, 0);
    assert_eq!(world.findings(&run).await, [("foreign", puts[1].clone())]);
    assert_eq!(tails(&world).len(), 3, "the upload is pending");
    send(&world, id, PART + 30, &file[PART + 30..]).await.unwrap();
    assert_eq!(tails(&world), [puts[1].clone()], "the end of the upload finds all of its tails");
    // A slow writer stores a tail after the end of the upload.
    world.store.put(&puts[0], Bytes::from_static(b"x"), &PutOptions::default()).await.unwrap();
    world.reconcile(Mode::Audit).await;
    assert_eq!(tails(&world).len(), 2, "the audit ignores an object this young");
    world.pass(TimeDelta::minutes(16));
    let dry = world.reconcile_with(|request| request.dry_run = true, Mode::Audit).await;
    assert_eq!(dry.status, RunStatus::Succeeded, "{dry:?}");
    assert_eq!(tails(&world).len(), 2);
    world.reconcile(Mode::Audit).await;
    assert_eq!(tails(&world), [puts[1].clone()]);
    world.store.delete(&puts[1]).await.unwrap();
    is_complete(&world, id, &file).await;
}

#[tokio::test]
async fn an_upload_of_unknown_length_counts_with_the_largest_size_until_it_ends() {
    let world = World::with(|policy| policy.max_size = 1000).await;
    let sizes = [("tracks".to_owned(), 1000)].into();
    let quota = Quota { pending_bytes: Some(1500), max_sizes: sizes, ..Quota::default() };
    let db = world.app.db.clone().with_quota(quota);
    let app = crate::support::app::replica_of(&world.app, db);
    let create = async |size: Option<u64>| {
        let declared = Declared { filename: Some("a.mp3".into()), size, ..Declared::default() };
        let new = NewUpload { declared, ..NewUpload::default() };
        app.create_tus(&world.owner, new, None).await
    };
    let unknown = create(None).await.unwrap().upload;
    assert_eq!(unknown.strategy, Strategy::Tus);
    create(Some(400)).await.unwrap();
    assert!(create(Some(200)).await.is_err());
    app.end_tus(&world.owner, unknown.id).await.unwrap();
    create(Some(1000)).await.unwrap();
}

#[tokio::test]
async fn rows_of_ended_uploads_are_pruned() {
    let world = World::new().await;
    let (one, other) = (begin(&world, Some(100)).await, begin(&world, Some(100)).await);
    send(&world, one, 0, &mp3(100, 1)).await.unwrap();
    let retention = upload_coordinator::app::retention::Retention {
        findings: TimeDelta::days(30),
        ended: None,
        deliveries: TimeDelta::days(30),
    };
    assert_eq!(world.app.prune(retention).await.unwrap().tus, 1);
    assert!(world.app.db.tus().find(other).await.unwrap().is_some());
    assert_eq!(resume(&world.app, &world, one).await.unwrap().stored, 100);
}
