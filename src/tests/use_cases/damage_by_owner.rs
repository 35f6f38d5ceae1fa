//! Verified uploads whose bytes are replaced. Their rejection is damage, which the damage limit
//! bounds: in a run for each owner and in total, and for events and clients in each hour.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use upload_coordinator::app::App;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::event::ObjectEvent;
use upload_coordinator::domain::run::{Mode, RunStatus};
use upload_coordinator::domain::upload::State;
use upload_coordinator::domain::{Owner, RejectReason, Status, Subject, Upload};
use upload_coordinator::reconcile::DamageLimit;
use upload_coordinator::storage::ObjectStore as _;

use crate::support::world::World;
use crate::support::{PNG, mp3};

/// A limit of `max` under every policy.
fn at_most(max: u64) -> DamageLimit {
    DamageLimit { max, ..DamageLimit::default() }
}

async fn limited(max: u64) -> World {
    World::new().await.reconfigured(|_| {}, at_most(max)).await
}

/// A verified upload of an owner.
async fn uploaded_by(world: &World, owner: &str) -> Upload {
    let owner = Owner::named(owner);
    let upload = world.app.create_upload(&owner, NewUpload::default()).await.unwrap().upload;
    world.put(&upload, mp3(900, 1)).await;
    world.app.confirm_upload(&owner, upload.id).await.unwrap()
}

async fn some_of(world: &World, owner: &str, count: usize) -> Vec<Upload> {
    let mut uploads = Vec::new();
    for _ in 0..count {
        uploads.push(uploaded_by(world, owner).await);
    }
    uploads
}

/// Overwrites the object of each upload with other bytes, as a tool that edits tags does.
async fn retag(world: &World, uploads: &[Upload]) {
    for upload in uploads {
        world.put(upload, mp3(901, 2)).await;
    }
}

async fn statuses(world: &World, uploads: &[Upload]) -> BTreeMap<Status, usize> {
    let mut counts = BTreeMap::new();
    for upload in uploads {
        let row = world.app.db.uploads().find_any_owner(upload.id).await.unwrap().unwrap();
        *counts.entry(row.status()).or_default() += 1;
    }
    counts
}

fn all(status: Status, count: usize) -> BTreeMap<Status, usize> {
    BTreeMap::from([(status, count)])
}

#[tokio::test]
async fn an_audit_rejects_no_verified_upload_beyond_the_limit() {
    let world = limited(5).await;
    let uploads = some_of(&world, "ann", 6).await;
    retag(&world, &uploads).await;
    for (mode, dry_run) in [(Mode::Audit, true), (Mode::Incremental, false), (Mode::Audit, false)] {
        let run = world.reconcile_with(|request| request.dry_run = dry_run, mode).await;
        assert_eq!((run.status, run.counters.rejected), (RunStatus::Stopped, 0), "{mode:?}");
        assert_eq!(statuses(&world, &uploads).await, all(Status::Uploaded, 6));
    }
    let dry = world.reconcile_with(|r| (r.accept_damage, r.dry_run) = (6, true), Mode::Audit).await;
    let reported = world.findings_with_details(&dry).await;
    let real = world.reconcile_with(|request| request.accept_damage = 6, Mode::Audit).await;
    assert_eq!((real.status, real.counters.overwritten), (RunStatus::Succeeded, 6));
    assert_eq!((dry.status, dry.counters.overwritten), (RunStatus::Succeeded, 6));
    assert_eq!(reported, world.findings_with_details(&real).await);
    assert_eq!(statuses(&world, &uploads).await, all(Status::Rejected, 6));
    // The deletion of their objects is damage too.
    world.pass(TimeDelta::hours(25));
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!((run.status, run.counters.deleted), (RunStatus::Stopped, 0), "{:?}", run.error);
}

#[tokio::test]
async fn new_files_that_break_a_rule_are_not_damage() {
    let world = limited(0).await;
    for _ in 0..3 {
        let upload = world.upload().await;
        world.put(&upload, PNG).await;
    }
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!((run.status, run.counters.rejected), (RunStatus::Succeeded, 3), "{:?}", run.error);
}

#[tokio::test]
async fn an_owner_above_the_limit_stops_only_its_own_changes() {
    let world = limited(5).await;
    let theirs = some_of(&world, "mallory", 6).await;
    let (others, lost) = (some_of(&world, "ann", 3).await, uploaded_by(&world, "ann").await);
    let other = some_of(&world, "bob", 1).await;
    world.pass(TimeDelta::seconds(1));
    for uploads in [&theirs, &others, &other] {
        retag(&world, uploads).await;
    }
    world.store.delete(lost.key.as_str()).await.unwrap();
    for (round, rejected, missing) in [(1, 4, 1), (2, 0, 0)] {
        let run = world.reconcile(Mode::Audit).await;
        assert_eq!(run.status, RunStatus::Stopped, "round {round}");
        let counters = run.counters;
        assert_eq!((counters.rejected, counters.missing), (rejected, missing), "round {round}");
        let error = run.error.unwrap();
        assert!(error.contains("`mallory` (6)") && !error.contains("ann"), "{error}");
        assert_eq!(statuses(&world, &theirs).await, all(Status::Uploaded, 6));
        assert_eq!(statuses(&world, &others).await, all(Status::Rejected, 3));
    }
    // The objects of the other owners' rejected uploads are deleted. The uploads of `mallory` were
    // not rejected, so their objects are not due.
    world.pass(TimeDelta::hours(25));
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!(run.counters.deleted, 4, "{:?}", run.error);
    let run = world.reconcile_with(|request| request.accept_damage = 6, Mode::Audit).await;
    assert_eq!((run.status, run.counters.rejected), (RunStatus::Succeeded, 6), "{:?}", run.error);
    // Now the deletions of `mallory` are due. They exceed the limit, so only they are withheld.
    world.pass(TimeDelta::hours(25));
    world.app.delete_upload(&world.owner, world.upload().await.id).await.unwrap();
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!((run.status, run.counters.deleted), (RunStatus::Stopped, 1), "{:?}", run.error);
}

#[tokio::test]
async fn owners_who_together_exceed_the_limit_lose_nothing() {
    let world = limited(5).await;
    let mut uploads = some_of(&world, "ann", 3).await;
    uploads.extend(some_of(&world, "bob", 3).await);
    retag(&world, &uploads).await;
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!((run.status, run.counters.rejected), (RunStatus::Stopped, 0));
    assert!(run.error.unwrap().contains("more than 5 verified uploads"));
    assert_eq!(statuses(&world, &uploads).await, all(Status::Uploaded, 6));
}

#[tokio::test]
async fn other_bytes_in_a_bucket_without_the_marker_are_ignored() {
    let world = World::new().await;
    let uploads = some_of(&world, "ann", 1).await;
    world.reconcile(Mode::Audit).await;
    retag(&world, &uploads).await;
    world.store.delete("tracks/.instance").await.unwrap();
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!(run.status, RunStatus::Stopped);
    assert_eq!(statuses(&world, &uploads).await, all(Status::Uploaded, 1));
}

/// Sends a process an event of an object, as the bucket does.
async fn send_event(app: &App, upload: &Upload) {
    let event = ObjectEvent { bucket: "memory".into(), key: upload.key.to_string() };
    app.process_events(vec![event]).await.unwrap();
}

#[tokio::test]
async fn rejections_by_events_and_clients_of_all_processes_share_one_hourly_limit() {
    let world = limited(3).await;
    let replica = world.replica().await;
    let uploads = some_of(&world, "ann", 6).await;
    retag(&world, &uploads).await;
    for (n, upload) in uploads.iter().enumerate() {
        match n % 3 {
            0 => send_event(&world.app, upload).await,
            1 => send_event(&replica, upload).await,
            _ => drop(replica.confirm_upload(&Owner::named("ann"), upload.id).await.unwrap()),
        }
    }
    let rejected = BTreeMap::from([(Status::Rejected, 3), (Status::Uploaded, 3)]);
    assert_eq!(statuses(&world, &uploads).await, rejected);
    // Changes that are not damage are still done.
    let received = world.upload().await;
    world.put(&received, PNG).await;
    send_event(&world.app, &received).await;
    assert_eq!(world.get(received.id).await.status(), Status::Rejected);
    // The remaining changes are left to the runs, which have the same limit.
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!((run.status, run.counters.rejected), (RunStatus::Succeeded, 3), "{:?}", run.error);
}

#[tokio::test]
async fn the_hourly_limit_starts_again_in_the_next_hour() {
    let world = limited(1).await;
    let uploads = some_of(&world, "ann", 3).await;
    retag(&world, &uploads).await;
    for upload in &uploads {
        send_event(&world.app, upload).await;
    }
    assert_eq!(statuses(&world, &uploads).await[&Status::Rejected], 1);
    world.pass(TimeDelta::hours(1));
    for upload in &uploads {
        send_event(&world.app, upload).await;
    }
    assert_eq!(statuses(&world, &uploads).await[&Status::Rejected], 2);
}

#[tokio::test]
async fn a_replaced_file_is_not_served_even_if_its_rejection_is_withheld() {
    let world = limited(0).await;
    let track = world.track().await;
    let new = NewUpload { attach_to: Some(Subject::of_track(track.id)), ..NewUpload::default() };
    let upload = world.create(new).await;
    world.put(&upload, mp3(900, 1)).await;
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    world.app.track_file(&world.owner, track.id).await.unwrap();
    retag(&world, std::slice::from_ref(&upload)).await;
    let refused = world.app.track_file(&world.owner, track.id).await.unwrap_err();
    assert_eq!(refused.to_string(), "no such file");
    assert_eq!(world.get(upload.id).await.status(), Status::Uploaded);
}

/// A world whose policy allows less than the size of its verified uploads.
async fn tightened(world: &World, verify_max_read: u64) -> World {
    let change = move |policy: &mut upload_coordinator::domain::Policy| {
        policy.max_size = 500;
        policy.verify_max_read = verify_max_read;
    };
    world.reconfigured(change, DamageLimit::default()).await
}

#[tokio::test]
async fn the_same_bytes_written_again_stay_verified_under_stricter_rules() {
    let world = World::new().await;
    let upload = uploaded_by(&world, "ann").await;
    world.write_again(upload.key.as_str(), mp3(900, 1)).await;
    let strict = tightened(&world, 64 << 20).await;
    let run = strict.reconcile(Mode::Audit).await;
    assert_eq!((run.status, run.counters.rejected), (RunStatus::Succeeded, 0));
    assert_eq!(strict.findings(&run).await, [], "a comparison shows that the bytes are the same");
    let row = strict.app.db.uploads().find_any_owner(upload.id).await.unwrap().unwrap();
    assert_eq!(row.status(), Status::Uploaded);
    let (before, now) = (upload.state.facts().unwrap(), row.state.facts().unwrap());
    assert_ne!(before.etag, now.etag, "the new ETag is recorded");
    assert_eq!(before.checksum, now.checksum);
    // Other bytes of the same size are recognised.
    strict.write_again(upload.key.as_str(), mp3(900, 2)).await;
    let run = strict.reconcile(Mode::Audit).await;
    assert_eq!(run.counters.overwritten, 1);
}

#[tokio::test]
async fn bytes_that_cannot_be_compared_are_flagged_and_not_rejected() {
    let world = World::new().await;
    let upload = uploaded_by(&world, "ann").await;
    world.write_again(upload.key.as_str(), mp3(900, 1)).await;
    // The policy does not allow to read objects for a comparison.
    let strict = tightened(&world, 0).await;
    let flagged = ("overwritten", upload.key.to_string(), Some("too-large".to_owned()));
    let dry = strict.reconcile_with(|request| request.dry_run = true, Mode::Audit).await;
    let run = strict.reconcile(Mode::Audit).await;
    for run in [&dry, &run] {
        assert_eq!((run.status, run.counters.rejected), (RunStatus::Succeeded, 0));
        assert_eq!(strict.findings_with_details(run).await, std::slice::from_ref(&flagged));
    }
    let row = strict.app.db.uploads().find_any_owner(upload.id).await.unwrap().unwrap();
    assert_eq!(row.status(), Status::Uploaded);
    let run = strict.reconcile(Mode::Audit).await;
    assert_eq!(strict.findings_with_details(&run).await, [], "flagged once");
    // A different size shows that the bytes differ, without a comparison.
    strict.write_again(upload.key.as_str(), mp3(901, 1)).await;
    strict.reconcile(Mode::Audit).await;
    let row = strict.app.db.uploads().find_any_owner(upload.id).await.unwrap().unwrap();
    let State::Rejected { reason, .. } = row.state else { panic!("{row:?}") };
    assert_eq!(reason, RejectReason::Overwritten);
}
