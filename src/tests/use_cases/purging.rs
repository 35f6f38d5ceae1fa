//! Deleting orphans on request, and deleting old rows.

use chrono::TimeDelta;
use upload_coordinator::app::retention::{Pruned, Retention};
use upload_coordinator::domain::run::{Finding, FindingKind, Mode, Run, RunStatus};
use upload_coordinator::domain::{Clock as _, Status, Subject, UploadId};
use upload_coordinator::reconcile::purge::{Purge, PurgeError, Purged};
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::{ObjectStore as _, StoreError};

use crate::support::mp3;
use crate::support::world::World;

async fn orphan(world: &World, seed: u8) -> String {
    let id = UploadId(world.app.ids.uuid());
    let key = world.app.policies.values().next().unwrap().prefix.key(id).to_string();
    world.put_key(&key, mp3(500, seed)).await;
    key
}

fn purge_of(run: &Run) -> Purge {
    Purge { run: run.id, older_than: TimeDelta::zero(), limit: 1000, dry_run: false }
}

async fn purge(world: &World, purge: Purge) -> Purged {
    world.reconciler.purge_orphans(purge).await.unwrap()
}

#[tokio::test]
async fn a_purge_deletes_what_its_dry_run_lists_and_reserves_the_ids() {
    let world = World::new().await;
    let survivor = world.upload().await;
    world.put(&survivor, mp3(900, 1)).await;
    let orphans = [orphan(&world, 2).await, orphan(&world, 3).await];
    world.pass_the_deadline();
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!(run.counters.orphans, 2);
    let young = Purge { older_than: TimeDelta::hours(3), ..purge_of(&run) };
    assert_eq!(purge(&world, young).await, Purged { keys: vec![], skipped: 2 });
    let dry = purge(&world, Purge { dry_run: true, ..purge_of(&run) }).await;
    assert!(orphans.iter().all(|key| world.store.keys().contains(key)));
    let first = purge(&world, Purge { limit: 1, ..purge_of(&run) }).await;
    let remaining = purge(&world, purge_of(&run)).await;
    assert_eq!([first.keys, remaining.keys].concat(), dry.keys);
    assert_eq!(remaining.skipped, 1, "one orphan does not exist any more");
    assert_eq!(world.store.keys(), ["tracks/.instance", survivor.key.as_str()]);
    for key in &dry.keys {
        let id: UploadId = key.rsplit('/').next().unwrap().parse().unwrap();
        let row = world.app.db.uploads().find_any_owner(id).await.unwrap().unwrap();
        assert_eq!(row.status(), Status::Removed);
        assert!(row.deletion.done.is_some());
        assert!(world.app.db.uploads().create(row, None).await.is_err(), "its id is taken");
    }
    let again = world.reconcile(Mode::Audit).await;
    assert_eq!((again.counters.orphans, again.counters.transitions()), (0, 0));
}

#[tokio::test]
async fn a_purge_never_deletes_an_object_with_a_row() {
    let world = World::new().await;
    world.reconcile(Mode::Audit).await;
    let mut owned = Vec::new();
    for seed in 0..20 {
        let upload = world.upload().await;
        world.put(&upload, mp3(900, seed)).await;
        if seed % 2 == 0 {
            world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
        }
        owned.push(upload);
    }
    let run = world.reconcile_with(|request| request.dry_run = true, Mode::Audit).await;
    let false_findings: Vec<_> = owned
        .iter()
        .map(|upload| Finding {
            kind: FindingKind::Orphan,
            policy: upload.policy.clone(),
            key: upload.key.to_string(),
            upload: Some(upload.id),
            size: None,
            detail: None,
            found_at: world.clock.now(),
        })
        .collect();
    world.app.db.findings().record(&run, &false_findings).await.unwrap();
    world.pass(TimeDelta::minutes(40));
    // New uploads are created in the meantime.
    let (purged, created) = tokio::join!(purge(&world, purge_of(&run)), async {
        let upload = world.upload().await;
        world.put(&upload, mp3(900, 99)).await;
        upload
    });
    assert_eq!(purged, Purged { keys: vec![], skipped: 20 });
    owned.push(created);
    let keys = world.store.keys();
    assert!(owned.iter().all(|upload| keys.contains(&upload.key.to_string())));
}

#[tokio::test]
async fn an_orphan_whose_deletion_fails_is_deleted_by_the_next_run() {
    let world = World::new().await;
    let key = orphan(&world, 1).await;
    world.pass_the_deadline();
    let run = world.reconcile(Mode::Audit).await;
    world.store.fail_next(Operation::Delete, 1, || StoreError::Unavailable("down".into()));
    assert_eq!(purge(&world, purge_of(&run)).await, Purged { keys: vec![], skipped: 1 });
    assert!(world.store.keys().contains(&key));
    let next = world.reconcile(Mode::Incremental).await;
    assert_eq!((next.status, next.counters.deleted), (RunStatus::Succeeded, 1));
    assert!(!world.store.keys().contains(&key));
}

#[tokio::test]
async fn nothing_is_purged_in_a_foreign_bucket() {
    let world = World::new().await;
    let key = orphan(&world, 1).await;
    world.pass_the_deadline();
    let run = world.reconcile(Mode::Audit).await;
    world.store.delete("tracks/.instance").await.unwrap();
    let refused = world.reconciler.purge_orphans(purge_of(&run)).await;
    assert!(matches!(refused, Err(PurgeError::BucketMismatch(_))));
    assert!(world.store.keys().contains(&key));
}

#[tokio::test]
async fn old_runs_findings_and_ended_uploads_are_pruned_except_the_newest_upload_of_a_track() {
    let world = World::new().await;
    let track = world.track().await;
    let new = upload_coordinator::app::create_upload::NewUpload {
        attach_to: Some(Subject::of_track(track.id)),
        ..Default::default()
    };
    let (ended, newest) = (world.upload().await, world.create(new).await);
    let open = world.upload().await;
    for upload in [&ended, &newest] {
        world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    }
    orphan(&world, 1).await;
    world.pass(TimeDelta::minutes(20));
    let old = world.reconcile(Mode::Audit).await;
    assert_eq!((old.counters.deleted, old.counters.orphans), (2, 1));
    world.pass(TimeDelta::days(31));
    let young = world.reconcile(Mode::Audit).await;
    let retention = Retention {
        findings: TimeDelta::days(30),
        ended: Some(TimeDelta::days(30)),
        deliveries: TimeDelta::days(7),
    };
    let none = Retention { findings: TimeDelta::days(40), ended: None, ..retention };
    assert_eq!(world.app.prune(none).await.unwrap(), Pruned::default());
    let pruned = world.app.prune(retention).await.unwrap();
    // `findings` counts the old run and its two findings about deletions. The finding of the orphan
    // stays, because the young run saw it again.
    assert_eq!(pruned, Pruned { findings: 3, ended: 1, ..Pruned::default() });
    assert!(world.app.db.runs().find(old.id).await.unwrap().is_none());
    assert_eq!(world.findings(&young).await.len(), 1);
    assert!(world.app.db.uploads().find_any_owner(ended.id).await.unwrap().is_none());
    for survivor in [newest, open] {
        assert!(world.app.db.uploads().find_any_owner(survivor.id).await.unwrap().is_some());
    }
}
