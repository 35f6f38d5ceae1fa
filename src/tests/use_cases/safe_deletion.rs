//! Deletions while clients upload: no object of an open or verified upload is deleted.
//!
//! `TEST_LONG=1` runs more rounds; `TEST_SEED=7` runs the round with that seed.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::TimeDelta;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use upload_coordinator::domain::run::{Mode, RunStatus};
use upload_coordinator::domain::{Status, Upload, UploadId};
use upload_coordinator::reconcile::purge::Purge;

use crate::support::world::World;
use crate::support::{PNG, mp3};

#[tokio::test]
async fn no_object_of_an_open_or_verified_upload_is_deleted() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("TEST_SEED") {
        Some(seed) => seed..=seed,
        None => 0..=if number("TEST_LONG").is_some() { 40 } else { 3 },
    };
    for seed in seeds {
        println!("TEST_SEED={seed}");
        Box::pin(round(seed)).await;
    }
}

/// The uploads whose objects must stay.
type MustStay = Mutex<Vec<Upload>>;

async fn round(seed: u64) {
    let world = World::new().await;
    let (must_stay, busy) = (MustStay::default(), AtomicBool::new(true));
    let clients = async {
        let clients =
            (0..4).map(|n| client(&world, StdRng::seed_from_u64(seed * 10 + n), &must_stay));
        futures_util::future::join_all(clients).await;
        busy.store(false, Ordering::SeqCst);
    };
    let ((), deleted, ()) =
        tokio::join!(clients, reconcile(&world, &busy), check(&world, &busy, &must_stay));
    assert!(deleted > 0, "no object was deleted");
    safe(&world, &must_stay).await;
    dry_and_real(&world).await;
    safe(&world, &must_stay).await;
}

/// Creates uploads that arrive and stay, and others that are invalid, cancelled, deleted or
/// orphaned.
async fn client(world: &World, mut rng: StdRng, must_stay: &MustStay) {
    for _ in 0..25 {
        // The URL of a new upload is valid for an hour, so no deadline passes.
        world.pass(TimeDelta::seconds(rng.random_range(0..20)));
        let bytes = mp3(900, rng.random_range(0..250));
        match rng.random_range(0..6) {
            0 => orphan(world).await,
            1 => {
                let upload = world.upload().await;
                world.put(&upload, PNG).await;
            }
            2 => {
                let upload = world.upload().await;
                world.app.delete_upload(&world.owner, upload.id).await.unwrap();
                world.put(&upload, bytes).await;
            }
            3 => {
                let upload = world.upload().await;
                world.put(&upload, bytes).await;
                let _ = world.app.confirm_upload(&world.owner, upload.id).await;
                world.app.delete_upload(&world.owner, upload.id).await.unwrap();
            }
            confirms => {
                let upload = world.upload().await;
                tokio::task::yield_now().await;
                world.put(&upload, bytes).await;
                if confirms == 4 {
                    world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
                }
                must_stay.lock().unwrap().push(upload);
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn orphan(world: &World) {
    let id = UploadId(world.app.ids.uuid());
    let key = world.app.policies.values().next().unwrap().prefix.key(id).to_string();
    world.put_key(&key, mp3(500, 1)).await;
}

/// Repeats audits, incremental runs and purges. Returns the number of deletions.
async fn reconcile(world: &World, busy: &AtomicBool) -> u64 {
    let mut deleted = 0;
    while busy.load(Ordering::SeqCst) {
        let audit = world.reconcile(Mode::Audit).await;
        assert_eq!(audit.status, RunStatus::Succeeded, "{:?}", audit.error);
        let limit = 1000;
        let purge = Purge { run: audit.id, older_than: TimeDelta::zero(), limit, dry_run: false };
        let purged = world.reconciler.purge_orphans(purge).await.unwrap();
        let incremental = world.reconcile(Mode::Incremental).await;
        assert_eq!(incremental.status, RunStatus::Succeeded, "{:?}", incremental.error);
        deleted += audit.counters.deleted + incremental.counters.deleted;
        deleted += purged.keys.len() as u64;
    }
    deleted
}

async fn check(world: &World, busy: &AtomicBool, must_stay: &MustStay) {
    while busy.load(Ordering::SeqCst) {
        safe(world, must_stay).await;
        tokio::task::yield_now().await;
    }
}

async fn safe(world: &World, must_stay: &MustStay) {
    let owned: Vec<_> = must_stay.lock().unwrap().clone();
    let keys: BTreeSet<_> = world.store.keys().into_iter().collect();
    for upload in owned {
        assert!(keys.contains(upload.key.as_str()), "the object of {} was deleted", upload.id);
        let status = world.get(upload.id).await.status();
        assert!(matches!(status, Status::Pending | Status::Uploaded), "{status:?}");
    }
}

/// Checks that a dry run and a dry purge report exactly what the real ones do.
async fn dry_and_real(world: &World) {
    world.pass(TimeDelta::hours(30));
    orphan(world).await;
    world.pass(TimeDelta::hours(1));
    let dry = world.reconcile_with(|request| request.dry_run = true, Mode::Audit).await;
    let before: BTreeSet<_> = world.store.keys().into_iter().collect();
    let reported = world.findings_with_details(&dry).await;
    let real = world.reconcile(Mode::Audit).await;
    assert_eq!(dry.counters, real.counters);
    let after: BTreeSet<_> = world.store.keys().into_iter().collect();
    assert_eq!(reported, world.findings_with_details(&real).await);
    let to_go = reported.into_iter().filter(|(_, _, detail)| detail.as_deref() == Some("delete"));
    let to_go: BTreeSet<_> = to_go.map(|(_, key, _)| key).collect();
    assert_eq!(to_go, before.difference(&after).cloned().collect());
    assert_eq!(to_go.len() as u64, real.counters.deleted);
    let purge = |dry_run| {
        let (older_than, limit) = (TimeDelta::zero(), 1000);
        world.reconciler.purge_orphans(Purge { run: real.id, older_than, limit, dry_run })
    };
    let said = purge(true).await.unwrap();
    assert_eq!(world.store.keys().into_iter().collect::<BTreeSet<_>>(), after);
    let done = purge(false).await.unwrap();
    assert_eq!(said, done);
    let gone: Vec<_> = {
        let left: BTreeSet<_> = world.store.keys().into_iter().collect();
        after.difference(&left).cloned().collect()
    };
    let mut listed = done.keys;
    listed.sort();
    assert_eq!(gone, listed);
}
