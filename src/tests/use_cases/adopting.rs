//! Orphans that become uploads, after an older database was restored with a newer bucket.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use upload_coordinator::domain::run::{Mode, Run, RunRequest, RunStatus};
use upload_coordinator::domain::upload::ConfirmedBy;
use upload_coordinator::domain::{Owner, PolicyName, Status, UploadId};
use upload_coordinator::reconcile::purge::Purge;
use upload_coordinator::storage::ObjectStore as _;

use crate::support::world::World;
use crate::support::{PNG, mp3};

async fn orphan(world: &World, bytes: Vec<u8>) -> (UploadId, String) {
    let id = UploadId(world.app.ids.uuid());
    let key = world.app.policies.values().next().unwrap().prefix.key(id).to_string();
    world.put_key(&key, bytes).await;
    (id, key)
}

fn ann() -> Owner {
    Owner::named("ann")
}

async fn adopt(world: &World, change: impl FnOnce(&mut RunRequest)) -> Run {
    let adopt = |request: &mut RunRequest| {
        request.adopt = Some(ann());
        change(request);
    };
    world.reconcile_with(adopt, Mode::Audit).await
}

async fn gauge(world: &World) -> Option<u64> {
    world.app.db.runs().count_orphans().await.unwrap().get(&PolicyName::default()).copied()
}

#[tokio::test]
async fn orphans_that_pass_the_rules_become_uploads_of_the_named_owner() {
    let world = World::new().await;
    let known = world.upload().await;
    world.put(&known, mp3(900, 1)).await;
    let mut valid = Vec::new();
    for seed in 0..120 {
        valid.push(orphan(&world, mp3(500, seed)).await.0);
    }
    let (invalid, invalid_key) = orphan(&world, PNG.to_vec()).await;
    world.put_key("tracks/notes.txt", "foreign").await;
    world.pass_the_deadline();
    let (young, _) = orphan(&world, mp3(500, 200)).await;
    for _ in 0..2 {
        let audit = world.reconcile(Mode::Audit).await;
        assert_eq!((audit.counters.orphans, gauge(&world).await), (121, Some(121)));
    }

    let dry = adopt(&world, |request| request.dry_run = true).await;
    assert_eq!((dry.status, dry.counters.adopted), (RunStatus::Succeeded, 120), "{:?}", dry.error);
    let reported = world.findings_with_details(&dry).await;
    assert_eq!(
        reported.iter().filter(|(_, _, detail)| detail.as_deref() == Some("adopt")).count(),
        120
    );
    assert!(world.app.db.uploads().find_any_owner(valid[0]).await.unwrap().is_none());
    assert_eq!(gauge(&world).await, Some(121), "nothing was adopted yet");
    let keys = world.keys().await;

    let run = adopt(&world, |_| {}).await;
    assert_eq!(run.counters, dry.counters);
    assert_eq!(world.findings_with_details(&run).await, reported);
    assert_eq!(world.keys().await, keys, "an adoption deletes nothing");
    for id in valid {
        let upload = world.app.upload(&ann(), id).await.unwrap();
        assert_eq!(upload.status(), Status::Uploaded);
        let verified = upload.state.verified().unwrap();
        assert_eq!((verified.confirmed_by, verified.late), (ConfirmedBy::Scan, false));
        assert_eq!(verified.facts.size, 500);
    }
    for id in [invalid, young] {
        assert!(world.app.db.uploads().find_any_owner(id).await.unwrap().is_none());
    }
    let reason = ("orphan", invalid_key, Some("content-mismatch".to_owned()));
    assert!(reported.contains(&reason), "{reported:?}");
    assert_eq!(gauge(&world).await, Some(1));
    let again = world.reconcile(Mode::Audit).await;
    assert_eq!((again.counters.orphans, again.counters.transitions()), (1, 0));
}

#[tokio::test]
async fn each_orphan_is_either_adopted_or_purged_if_both_run_at_once() {
    let world = World::new().await;
    let mut orphans = Vec::new();
    for seed in 0..60 {
        orphans.push(orphan(&world, mp3(500, seed)).await);
    }
    world.pass_the_deadline();
    let audit = world.reconcile(Mode::Audit).await;
    let purge = Purge { run: audit.id, older_than: TimeDelta::zero(), limit: 1000, dry_run: false };
    // A new upload is created at the same time.
    let (run, purged, created) =
        tokio::join!(adopt(&world, |_| {}), world.reconciler.purge_orphans(purge), world.upload());
    let stored: BTreeSet<_> = world.keys().await.into_iter().collect();
    let mut adopted = 0_u64;
    for (id, key) in orphans {
        let upload = world.app.db.uploads().find_any_owner(id).await.unwrap().unwrap();
        match upload.status() {
            Status::Uploaded => adopted += 1,
            status => assert_eq!(status, Status::Removed),
        }
        assert_eq!(stored.contains(&key), upload.status() == Status::Uploaded);
    }
    let purged = purged.unwrap().keys.len() as u64;
    assert_eq!((run.counters.adopted, purged), (adopted, 60 - adopted));
    assert_eq!(world.get(created.id).await.status(), Status::Pending);
}

#[tokio::test]
async fn nothing_is_adopted_from_a_foreign_bucket() {
    let world = World::new().await;
    let (id, _) = orphan(&world, mp3(500, 1)).await;
    world.pass_the_deadline();
    world.reconcile(Mode::Audit).await;
    world.store.delete("tracks/.instance").await.unwrap();
    world.put_key("tracks/.instance", "0190a6f2-7b3c-7def-8123-456789abcdef").await;
    let run = adopt(&world, |_| {}).await;
    assert_eq!((run.status, run.counters.adopted), (RunStatus::Stopped, 0));
    assert!(world.app.db.uploads().find_any_owner(id).await.unwrap().is_none());
}
