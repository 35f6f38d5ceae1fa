//! Reconciliation with concurrent writers, failing stores and exchanged buckets.

use bytes::Bytes;
use chrono::TimeDelta;
use std::sync::Arc;
use upload_coordinator::domain::ids::SystemIds;
use upload_coordinator::domain::run::{Mode, RunRequest, RunStatus, Trigger};
use upload_coordinator::domain::upload::ConfirmedBy;
use upload_coordinator::domain::{Policy, PolicyName, Prefix, Status};
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::{ObjectStore as _, PartIntegrity, PutOptions};

use crate::support::mp3;
use crate::support::world::World;

#[tokio::test]
async fn an_observation_older_than_the_verification_does_not_reject_valid_bytes() {
    let world = World::new().await;
    let upload = world.upload().await;
    world.put(&upload, mp3(900, 1)).await;
    let old = world.app.observe_object(&upload, ConfirmedBy::Scan).await.unwrap();
    // The client sends other bytes, and confirms them.
    world.put(&upload, mp3(901, 2)).await;
    let confirmed = world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    let applied = world.app.apply(upload.clone(), &old).await.unwrap();
    assert!(!applied.changed);
    assert_eq!(world.get(upload.id).await, confirmed);
    let many = world.app.apply_many(vec![(upload.clone(), old)]).await.unwrap();
    assert!(many.into_iter().all(|applied| !applied.unwrap().changed));
    assert_eq!(world.get(upload.id).await, confirmed);
}

#[tokio::test]
async fn a_policy_whose_store_fails_does_not_affect_the_others() {
    let change = |policies: &mut std::collections::BTreeMap<PolicyName, Policy>| {
        let mut other = policies.values().next().unwrap().clone();
        other.name = PolicyName::new("archive");
        other.store = "nowhere".to_owned();
        other.prefix = Prefix::parse("archive/").unwrap();
        policies.insert(other.name.clone(), other);
    };
    let world = World::build(change, |_| Arc::new(SystemIds)).await;
    let upload = world.upload().await;
    world.put(&upload, mp3(900, 1)).await;
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert!(run.error.unwrap().contains("storage.nowhere"));
    assert_eq!(world.get(upload.id).await.status(), Status::Uploaded);
}

#[tokio::test]
async fn each_object_is_counted_once_whichever_pages_it_is_on() {
    let world = World::new().await;
    for seed in 0..5 {
        let upload = world.upload().await;
        world.put(&upload, mp3(900, seed)).await;
    }
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!(run.counters.listed, 6, "five files and the marker");
}

#[tokio::test]
async fn a_dry_run_counts_the_deletion_of_bytes_that_arrived_for_an_ended_upload() {
    let world = World::new().await;
    let upload = world.upload().await;
    world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    world.reconcile(Mode::Audit).await;
    world.put(&upload, mp3(900, 1)).await;
    let dry = world.reconcile_with(|request| request.dry_run = true, Mode::Audit).await;
    assert!(world.store.keys().contains(&upload.key.to_string()));
    let real = world.reconcile(Mode::Audit).await;
    assert_eq!(dry.counters, real.counters);
    assert_eq!(real.counters.deleted, 1);
}

#[tokio::test]
async fn pending_uploads_do_not_expire_in_a_foreign_bucket() {
    let world = World::new().await;
    let (waiting, arrived) = (world.upload().await, world.upload().await);
    world.reconcile(Mode::Incremental).await;
    world.put(&arrived, mp3(900, 1)).await;
    world.store.delete("tracks/.instance").await.unwrap();
    // Before the deadline, the absence of an object changes nothing, so the run does not stop.
    assert_eq!(world.reconcile(Mode::Incremental).await.status, RunStatus::Succeeded);
    assert_eq!(world.get(arrived.id).await.status(), Status::Uploaded);
    world.pass_the_deadline();
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!(run.status, RunStatus::Stopped);
    assert_eq!(world.get(waiting.id).await.status(), Status::Pending);
}

#[tokio::test]
async fn a_bucket_that_is_removed_during_a_run_loses_no_verified_upload() {
    let world = World::new().await;
    let upload = world.upload().await;
    world.put(&upload, mp3(900, 1)).await;
    world.reconcile(Mode::Incremental).await;
    world.pass(TimeDelta::seconds(1));
    let gate = world.store.hold(Operation::Head);
    // Its URL is still valid and not write-once, so it is checked again.
    let request = RunRequest::of(Mode::Incremental, Trigger::Api);
    let run = world.reconciler.start(request).await.unwrap();
    gate.next_call().await;
    gate.let_through(1);
    gate.next_call().await;
    world.store.drop_bucket();
    gate.open();
    let run = run.wait().await;
    assert_eq!((run.status, run.counters.missing), (RunStatus::Stopped, 0), "{:?}", run.error);
    assert_eq!(world.get(upload.id).await.status(), Status::Uploaded);
}

#[tokio::test]
async fn audits_abort_abandoned_multipart_uploads() {
    let world = World::new().await;
    let upload = world.upload().await;
    let begin = async |key: &str| {
        let options = PutOptions::default();
        world.store.create_multipart(key, &options).await.unwrap()
    };
    let orphan = "tracks/f/0190a6f2-7b3c-7def-8123-456789abcdef";
    let abandoned = [begin(orphan).await, begin(upload.key.as_str()).await];
    let foreign = begin("tracks/notes.txt").await;
    let young = world.reconcile(Mode::Audit).await;
    assert_eq!(young.counters.aborted_multipart, 0, "within the grace");
    world.pass(TimeDelta::minutes(20));
    // The age of a multipart upload counts from its newest part.
    let busy = begin("tracks/e/0190a6f2-7b3c-7def-8123-456789abcdee").await;
    world.pass(TimeDelta::minutes(10));
    let part = Bytes::from_static(b"part");
    let key = "tracks/e/0190a6f2-7b3c-7def-8123-456789abcdee";
    world.store.upload_part(key, &busy, 1, part, PartIntegrity::Signature).await.unwrap();
    world.pass(TimeDelta::minutes(10));
    let dry = world.reconcile_with(|request| request.dry_run = true, Mode::Audit).await;
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!(run.status, RunStatus::Succeeded, "{:?}", run.error);
    assert_eq!((dry.counters, run.counters.aborted_multipart), (run.counters, 2));
    let kinds: Vec<_> = world.findings(&run).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["abandoned_multipart"; 2]);
    let (open, _) = world.store.list_multiparts("", None).await.unwrap();
    let mut left: Vec<_> = open.into_iter().map(|multipart| multipart.upload_id).collect();
    left.sort_unstable();
    assert_eq!(left, [foreign, busy]);
    assert!(abandoned.iter().all(|id| !left.contains(id)));
    assert_eq!(world.reconcile(Mode::Audit).await.counters.aborted_multipart, 0);
}
