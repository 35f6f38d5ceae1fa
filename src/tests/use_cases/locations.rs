//! Changes of a policy's store or prefix. Existing files stay at their location, and all use cases
//! still work for them.

use std::sync::Arc;

use chrono::TimeDelta;
use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::app::direct_upload::SentFile;
use upload_coordinator::app::{App, AppError};
use upload_coordinator::db::DbError;
use upload_coordinator::domain::event::ObjectEvent;
use upload_coordinator::domain::run::{Mode, Run, RunRequest, RunStatus, Trigger};
use upload_coordinator::domain::{
    Location, LocationNumber, Policy, PolicyName, Prefix, Status, Upload, UploadId,
};
use upload_coordinator::reconcile::purge::Purge;
use upload_coordinator::reconcile::{DamageLimit, ReconcileSettings, Reconciler};
use upload_coordinator::storage::memory::MemoryStore;
use upload_coordinator::storage::{ObjectStore as _, PutOptions};

use crate::support::mp3;
use crate::support::world::World;

/// Another store in memory. All these stores have the same bucket name.
fn bucket(world: &World) -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(world.clock.clone()).with_min_part_size(1))
}

fn add(app: &mut App, name: &str, bucket: &Arc<MemoryStore>) {
    app.stores.insert(name.to_owned(), bucket.clone().store(name, None).unwrap());
}

fn policy(app: &mut App) -> &mut Policy {
    app.policies.values_mut().next().unwrap()
}

/// The same service after a restart, with another store for new uploads.
async fn moved_to(world: &World, name: &str, bucket: &Arc<MemoryStore>) -> World {
    let change = |app: &mut App| {
        add(app, name, bucket);
        name.clone_into(&mut policy(app).store);
    };
    restarted(world, change).await
}

/// The same service after a restart. It writes the marker of a new location before the first
/// upload.
async fn restarted(world: &World, change: impl FnOnce(&mut App)) -> World {
    let world = world.restarted(change).await;
    world.app.register_locations().await.unwrap();
    world.app.check_buckets().await.unwrap();
    world
}

/// The same service after a restart, with another prefix for new uploads.
async fn prefixed(world: &World, prefix: &str) -> World {
    restarted(world, |app| policy(app).prefix = Prefix::parse(prefix).unwrap()).await
}

async fn put(bucket: &MemoryStore, upload: &Upload, seed: u8) {
    bucket.put(upload.key.as_str(), mp3(900, seed).into(), &PutOptions::default()).await.unwrap();
}

async fn confirmed(world: &World, upload: &Upload) -> Upload {
    world.app.confirm_upload(&world.owner, upload.id).await.unwrap()
}

async fn file(world: &World, upload: &Upload) -> Vec<u8> {
    let file = world.app.read_file(&world.owner, upload.id).await.unwrap();
    let chunks: Vec<bytes::Bytes> = file.bytes.try_collect().await.unwrap();
    chunks.concat()
}

async fn locations(world: &World) -> Vec<(i32, String, String)> {
    let all = world.app.db.locations().list().await.unwrap();
    let name = |l: Location| (l.number.0, l.store, l.prefix.to_string());
    all.into_iter().map(name).collect()
}

/// The counters that must be zero if the only change was one of the configuration.
fn harm(run: &Run) -> [u64; 6] {
    let c = &run.counters;
    assert_eq!(run.status, RunStatus::Succeeded, "{:?}", run.error);
    [c.missing, c.orphans, c.strays, c.foreign, c.rejected, c.errors]
}

/// Creates uploads in each state, changes the location of their policy with `after`, and checks all
/// use cases for them. `old` is the store before the change, `new` the store after it.
async fn old_files_work_after(
    before: World,
    after: impl AsyncFnOnce(&World) -> World,
    old: &MemoryStore,
    new: &MemoryStore,
) {
    let [verified, deleted, pending, renewed, event, late, scanned] =
        [0; 7].map(|_| before.upload());
    let (verified, deleted) = (verified.await, deleted.await);
    for (seed, upload) in [(1, &verified), (2, &deleted)] {
        put(old, upload, seed).await;
        confirmed(&before, upload).await;
    }
    let late = late.await;
    before.pass_the_deadline();
    assert_eq!(before.reconcile(Mode::Incremental).await.counters.expired, 1);
    let (pending, renewed, event) = (pending.await, renewed.await, event.await);
    let scanned = scanned.await;
    let parts = before.create(in_parts()).await;

    let world = after(&before).await;
    let fresh = world.upload().await;
    assert_eq!((verified.location, fresh.location), (LocationNumber(0), LocationNumber(1)));
    put(new, &fresh, 9).await;
    assert_eq!(confirmed(&world, &fresh).await.status(), Status::Uploaded);
    assert_eq!(file(&world, &fresh).await, mp3(900, 9));
    assert_eq!(file(&world, &verified).await, mp3(900, 1));
    world.app.upload_file(&world.owner, verified.id).await.unwrap();
    put(old, &pending, 3).await;
    assert_eq!(confirmed(&world, &pending).await.status(), Status::Uploaded);
    let again = world.app.renew_upload(&world.owner, renewed.id, None).await.unwrap().upload;
    assert_eq!((again.location, &again.key), (LocationNumber(0), &renewed.key));
    put(old, &again, 4).await;
    assert_eq!(confirmed(&world, &again).await.status(), Status::Uploaded);
    put(old, &event, 5).await;
    let bucket = "memory".to_owned();
    let moved = ObjectEvent { bucket, key: event.key.to_string() };
    world.app.process_events(vec![moved]).await.unwrap();
    assert_eq!(world.get(event.id).await.status(), Status::Uploaded);
    world.app.delete_upload(&world.owner, deleted.id).await.unwrap();
    world.app.delete_upload(&world.owner, parts.id).await.unwrap();
    let (open, _) = old.list_multiparts("", None).await.unwrap();
    assert!(open.is_empty(), "aborted where it was opened: {open:?}");
    put(old, &late, 6).await;
    put(old, &scanned, 7).await;

    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!(harm(&run), [0; 6]);
    assert_eq!((run.counters.confirmed, run.counters.late, run.counters.deleted), (2, 1, 2));
    assert!(!old.keys().contains(&deleted.key.to_string()));
    world.pass_the_deadline();
    let audit = world.reconcile(Mode::Audit).await;
    assert_eq!((harm(&audit), audit.counters.transitions()), ([0; 6], 0));
    let old_keys: Vec<_> = [&verified, &pending, &renewed, &event, &late, &scanned]
        .map(|upload| upload.key.to_string())
        .into_iter()
        .filter(|key| old.keys().contains(key))
        .collect();
    assert_eq!(old_keys.len(), 6);
    assert!(new.keys().contains(&fresh.key.to_string()));

    // An audit notices that an object at the former location is missing.
    old.delete(verified.key.as_str()).await.unwrap();
    world.pass(TimeDelta::seconds(1));
    let audit = world.reconcile(Mode::Audit).await;
    assert_eq!((audit.counters.missing, audit.counters.orphans), (1, 0), "{:?}", audit.error);
    assert_eq!(world.get(verified.id).await.status(), Status::Missing);

    // Back to the first location.
    let back = before.restarted(|app| app.stores.clone_from(&world.app.stores)).await;
    let last = back.upload().await;
    assert_eq!(last.location, LocationNumber(0));
    assert_eq!(file(&back, &fresh).await, mp3(900, 9));
    assert_eq!(locations(&back).await.len(), 2);
    let audit = back.reconcile(Mode::Audit).await;
    assert_eq!(harm(&audit), [0; 6]);
}

fn in_parts() -> NewUpload {
    use upload_coordinator::domain::upload::{Declared, Strategy};
    let declared = Declared { size: Some(9000), ..Declared::default() };
    let strategy = Some(Strategy::Multipart);
    NewUpload { declared, strategy, ..NewUpload::default() }
}

#[tokio::test]
async fn files_stay_in_their_store_when_their_policy_gets_another_store() {
    let world = World::new().await;
    let (old, new) = (world.store.clone(), bucket(&world));
    let after = async |world: &World| moved_to(world, "other", &new).await;
    Box::pin(old_files_work_after(world, after, &old, &new)).await;
    assert!(new.keys().contains(&"tracks/.instance".to_owned()), "each location has a marker");
}

#[tokio::test]
async fn files_stay_below_their_prefix_when_their_policy_gets_another_prefix() {
    let world = World::new().await;
    let store = world.store.clone();
    let after = async |world: &World| prefixed(world, "songs/").await;
    Box::pin(old_files_work_after(world, after, &store, &store)).await;
}

#[tokio::test]
async fn content_that_is_sent_through_the_service_goes_to_the_location_of_its_upload() {
    let world = World::new().await;
    let upload = world.upload().await;
    let new = bucket(&world);
    let world = moved_to(&world, "other", &new).await;
    let sent = SentFile::default();
    let body = futures_util::stream::iter([Ok(bytes::Bytes::from(mp3(9000, 1)))]);
    let stored = world.app.upload_content(&world.owner, upload.id, sent, body).await.unwrap();
    assert_eq!((stored.status(), stored.location), (Status::Uploaded, LocationNumber(0)));
    assert!(world.store.keys().contains(&upload.key.to_string()));
    assert!(!new.keys().contains(&upload.key.to_string()));
}

#[tokio::test]
async fn a_former_location_without_open_uploads_adds_no_shard_to_an_incremental_run() {
    let world = World::new().await;
    let verified = world.upload().await;
    put(&world.store, &verified, 1).await;
    confirmed(&world, &verified).await;
    // All URLs have expired, so no more bytes can arrive.
    world.pass(TimeDelta::days(2));
    let world = moved_to(&world, "other", &bucket(&world)).await;
    let run = world.reconcile(Mode::Incremental).await;
    assert_eq!(world.shards(run.id).await.len(), 0);
    let fresh = world.upload().await;
    let run = world.reconcile(Mode::Incremental).await;
    let shards = world.shards(run.id).await;
    assert_eq!((shards.len(), shards[0].location), (1, fresh.location.0));
}

#[tokio::test]
async fn processes_that_register_locations_at_the_same_time_agree_about_their_numbers() {
    let world = World::new().await;
    let new = bucket(&world);
    let mut processes = Vec::new();
    for n in 0..12 {
        let mut app = world.replica().await;
        add(&mut app, "other", &new);
        add(&mut app, "third", &new);
        policy(&mut app).store = ["default", "other", "third"][n % 3].to_owned();
        processes.push(app);
    }
    let registered = join_all(processes.iter().map(App::register_locations)).await;
    assert!(registered.iter().all(Result::is_ok), "{registered:?}");
    let mut known = locations(&world).await;
    assert_eq!(known.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [0, 1, 2]);
    known.sort_by(|a, b| a.1.cmp(&b.1));
    let stores: Vec<_> = known.iter().map(|(_, store, _)| store.as_str()).collect();
    assert_eq!(stores, ["default", "other", "third"]);
    // A process finds an upload at a location that was added after it had read the locations.
    let upload =
        processes[1].create_upload(&world.owner, NewUpload::default()).await.unwrap().upload;
    assert_ne!(upload.location, LocationNumber(0));
    put(&new, &upload, 1).await;
    let seen = processes[0].confirm_upload(&world.owner, upload.id).await.unwrap();
    assert_eq!(seen.status(), Status::Uploaded);
}

#[tokio::test]
async fn files_in_a_store_that_is_no_longer_configured_are_an_error_and_never_lost() {
    let world = World::new().await;
    let [verified, open] = [world.upload().await, world.upload().await];
    put(&world.store, &verified, 1).await;
    confirmed(&world, &verified).await;
    let new = bucket(&world);
    let change = |app: &mut App| {
        add(app, "other", &new);
        let policy = policy(app);
        policy.store = "other".to_owned();
        policy.prefix = Prefix::parse("songs/").unwrap();
        app.stores.remove("default");
    };
    let without = restarted(&world, change).await;
    let fresh = without.upload().await;
    put(&new, &fresh, 2).await;
    let is_gone = |error: AppError| match error {
        AppError::StoreUnconfigured { store, .. } => store == "default",
        _ => false,
    };
    assert!(is_gone(without.app.upload_file(&world.owner, verified.id).await.unwrap_err()));
    assert!(is_gone(without.app.confirm_upload(&world.owner, open.id).await.unwrap_err()));
    assert!(is_gone(without.app.renew_upload(&world.owner, open.id, None).await.unwrap_err()));
    without.pass_the_deadline();
    for mode in [Mode::Incremental, Mode::Audit] {
        let run = without.reconcile(mode).await;
        assert_eq!(run.status, RunStatus::Failed);
        assert!(run.error.as_ref().unwrap().contains("storage.default"), "{run:?}");
        assert_eq!((run.counters.missing, run.counters.expired), (0, 0));
    }
    assert_eq!(without.get(fresh.id).await.status(), Status::Uploaded, "the other location works");
    assert_eq!(without.get(verified.id).await.status(), Status::Uploaded);
    assert_eq!(without.get(open.id).await.status(), Status::Pending);

    // Configured again.
    let change = |app: &mut App| app.stores.clone_from(&world.app.stores);
    let again = without.restarted(|app| {
        change(app);
        add(app, "other", &new);
    });
    let again = again.await;
    assert_eq!(file(&again, &verified).await, mp3(900, 1));
    assert_eq!(again.reconcile(Mode::Audit).await.status, RunStatus::Succeeded);
}

/// Nothing of the service writes such a number: somebody has changed the database.
#[tokio::test]
async fn a_row_with_an_unknown_location_is_a_corrupt_row_and_loses_nothing() {
    let world = World::new().await;
    let [broken, other] = [world.upload().await, world.upload().await];
    for (seed, upload) in [(1, &broken), (2, &other)] {
        put(&world.store, upload, seed).await;
        confirmed(&world, upload).await;
    }
    world.set_location(&broken, 7).await;
    let error = world.app.upload_file(&world.owner, broken.id).await.unwrap_err();
    assert!(matches!(error, AppError::Db(DbError::Corrupt { column: "location", .. })), "{error}");
    assert!(
        error.to_string().contains(&format!("the row {} of the table uploads", broken.id)),
        "{error}"
    );
    assert_eq!(file(&world, &other).await, mp3(900, 2));
    world.pass_the_deadline();
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!(harm(&run), [0, 0, 1, 0, 0, 0], "its object is a stray");
    world.set_location(&broken, 0).await;
    assert_eq!(file(&world, &broken).await, mp3(900, 1));
}

#[tokio::test]
async fn a_store_that_is_removed_after_its_files_have_ended_fails_no_run() {
    let world = World::new().await;
    let upload = world.upload().await;
    world.app.delete_upload(&world.owner, upload.id).await.unwrap();
    world.pass(TimeDelta::days(2));
    assert_eq!(world.reconcile(Mode::Incremental).await.counters.deleted, 1);
    let new = bucket(&world);
    let change = |app: &mut App| {
        app.stores.remove("default");
        add(app, "other", &new);
        let policy = policy(app);
        policy.store = "other".to_owned();
        policy.prefix = Prefix::parse("songs/").unwrap();
    };
    let world = restarted(&world, change).await;
    for mode in [Mode::Incremental, Mode::Audit] {
        assert_eq!(harm(&world.reconcile(mode).await), [0; 6]);
    }
}

#[tokio::test]
async fn an_object_whose_upload_is_at_another_location_is_a_stray_and_is_never_deleted() {
    let world = World::new().await;
    let upload = world.upload().await;
    put(&world.store, &upload, 1).await;
    confirmed(&world, &upload).await;
    let new = bucket(&world);
    let world = moved_to(&world, "other", &new).await;
    // A copy with the same key, and an object without any row.
    put(&new, &upload, 1).await;
    let orphan = policy_of(&world).prefix.key(UploadId(world.app.ids.uuid()));
    new.put(orphan.as_str(), mp3(900, 2).into(), &PutOptions::default()).await.unwrap();
    world.pass_the_deadline();
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!((run.counters.strays, run.counters.orphans), (1, 1), "{:?}", run.error);
    let detail = Some("tracks/0".to_owned());
    assert_eq!(
        world.findings_with_details(&run).await,
        [("orphan", orphan.to_string(), None), ("stray", upload.key.to_string(), detail),]
    );
    let purge = Purge { run: run.id, older_than: TimeDelta::zero(), limit: 10, dry_run: false };
    let purged = world.reconciler.purge_orphans(purge).await.unwrap();
    assert_eq!(purged.keys, [orphan.to_string()]);
    assert!(new.keys().contains(&upload.key.to_string()));
    assert!(!new.keys().contains(&orphan.to_string()));
    assert_eq!(file(&world, &upload).await, mp3(900, 1));
}

fn policy_of(world: &World) -> &Policy {
    world.app.policies.values().next().unwrap()
}

#[tokio::test]
async fn a_policy_at_the_former_location_of_another_policy_finds_strays() {
    let world = World::new().await;
    let upload = world.upload().await;
    put(&world.store, &upload, 1).await;
    confirmed(&world, &upload).await;
    let change = |app: &mut App| {
        let mut later = policy(app).clone();
        later.name = PolicyName::new("later");
        policy(app).prefix = Prefix::parse("songs/").unwrap();
        app.policies.insert(later.name.clone(), later);
    };
    let world = restarted(&world, change).await;
    world.app.check_buckets().await.unwrap();
    let new = NewUpload { policy: Some(PolicyName::new("later")), ..NewUpload::default() };
    let theirs = world.create(new).await;
    put(&world.store, &theirs, 2).await;
    confirmed(&world, &theirs).await;
    world.pass_the_deadline();
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!((run.status, run.counters.strays), (RunStatus::Succeeded, 2), "{:?}", run.error);
    assert_eq!((run.counters.orphans, run.counters.transitions()), (0, 0));
    assert_eq!(file(&world, &upload).await, mp3(900, 1));
    assert_eq!(file(&world, &theirs).await, mp3(900, 2));
}

/// The same names of bucket and prefix at another provider are another place.
#[tokio::test]
async fn a_store_that_replaces_another_without_its_files_is_a_new_location() {
    let world = World::new().await;
    let upload = world.upload().await;
    put(&world.store, &upload, 1).await;
    confirmed(&world, &upload).await;
    let new = bucket(&world);
    let replaced = |app: &mut App| {
        add(app, "other", &new);
        app.stores.remove("default");
        policy(app).store = "other".to_owned();
    };
    let after = restarted(&world, replaced).await;
    let error = after.app.upload_file(&after.owner, upload.id).await.unwrap_err();
    assert!(matches!(error, AppError::StoreUnconfigured { .. }), "{error}");
    let fresh = after.upload().await;
    put(&new, &fresh, 2).await;
    confirmed(&after, &fresh).await;
    // Again, now that the new bucket has a marker too.
    let after = restarted(&after, replaced).await;
    let both = [
        (0, "default".to_owned(), "tracks/".to_owned()),
        (1, "other".to_owned(), "tracks/".to_owned()),
    ];
    assert_eq!(locations(&after).await, both);
    let again = after.restarted(|app| {
        app.stores.clone_from(&world.app.stores);
        add(app, "other", &new);
    });
    assert_eq!(file(&again.await, &upload).await, mp3(900, 1));
}

#[tokio::test]
async fn a_store_with_a_new_name_keeps_its_location() {
    let world = World::new().await;
    let upload = world.upload().await;
    put(&world.store, &upload, 1).await;
    confirmed(&world, &upload).await;
    let change = |app: &mut App| {
        add(app, "renamed", &world.store);
        app.stores.remove("default");
        policy(app).store = "renamed".to_owned();
    };
    let after = restarted(&world, change).await;
    after.app.register_locations().await.unwrap();
    assert_eq!(locations(&after).await, [(0, "renamed".to_owned(), "tracks/".to_owned())]);
    assert_eq!(file(&after, &upload).await, mp3(900, 1));
    assert_eq!(harm(&after.reconcile(Mode::Audit).await), [0; 6]);
}

#[tokio::test]
async fn a_configuration_that_changes_together_with_the_version_creates_no_orphans() {
    let world = World::new().await;
    let upload = world.upload().await;
    put(&world.store, &upload, 1).await;
    confirmed(&world, &upload).await;
    // Like after an upgrade: older versions do not record locations.
    world.execute("DELETE FROM locations").await;
    let new = bucket(&world);
    let change = |app: &mut App| {
        add(app, "other", &new);
        let policy = policy(app);
        policy.store = "other".to_owned();
        policy.prefix = Prefix::parse("songs/").unwrap();
    };
    let world = restarted(&world, change).await;
    world.app.register_locations().await.unwrap();
    let known = [(0, "default", "tracks/"), (1, "other", "songs/")];
    let known = known.map(|(n, store, prefix)| (n, store.to_owned(), prefix.to_owned()));
    assert_eq!(locations(&world).await, known);
    assert_eq!(file(&world, &upload).await, mp3(900, 1));
    assert_eq!(harm(&world.reconcile(Mode::Audit).await), [0; 6]);
}

#[tokio::test]
async fn the_damage_limit_of_a_policy_covers_all_its_locations() {
    let world = World::new().await;
    let mut uploads = Vec::new();
    for seed in 0..2 {
        let upload = world.upload().await;
        put(&world.store, &upload, seed).await;
        uploads.push(confirmed(&world, &upload).await);
    }
    let new = bucket(&world);
    let world = moved_to(&world, "other", &new).await;
    for seed in 0..2 {
        let upload = world.upload().await;
        put(&new, &upload, seed).await;
        uploads.push(confirmed(&world, &upload).await);
    }
    for upload in &uploads {
        world.store.delete(upload.key.as_str()).await.unwrap();
        new.delete(upload.key.as_str()).await.unwrap();
    }
    world.pass(TimeDelta::seconds(1));
    let audit = async |max| {
        let damage = DamageLimit { max, min: max, ratio: 0.0 };
        let settings = ReconcileSettings { damage, ..world.reconciler.settings.clone() };
        let reconciler = Arc::new(Reconciler::new(world.app.clone(), settings));
        let request = RunRequest::of(Mode::Audit, Trigger::Api);
        reconciler.start(request).await.unwrap().wait().await
    };
    let run = audit(3).await;
    assert_eq!((run.status, run.counters.missing), (RunStatus::Stopped, 0), "{:?}", run.error);
    let run = audit(4).await;
    assert_eq!((run.status, run.counters.missing), (RunStatus::Succeeded, 4), "{:?}", run.error);
}

#[tokio::test]
async fn the_marker_proves_that_a_former_store_has_only_another_name() {
    let world = World::new().await;
    let upload = world.upload().await;
    put(&world.store, &upload, 1).await;
    confirmed(&world, &upload).await;
    let new = bucket(&world);
    let moved = moved_to(&world, "other", &new).await;
    moved.app.check_buckets().await.unwrap();
    // The section `default` is removed from the configuration. `other` has the same bucket name,
    // but another marker.
    let without = moved.restarted(|app| drop(app.stores.remove("default"))).await;
    without.app.register_locations().await.unwrap();
    let error = without.app.upload_file(&world.owner, upload.id).await.unwrap_err();
    assert!(matches!(error, AppError::StoreUnconfigured { .. }), "{error}");
    let renamed = without.restarted(|app| add(app, "archive", &world.store)).await;
    renamed.app.register_locations().await.unwrap();
    assert_eq!(file(&renamed, &upload).await, mp3(900, 1));
    let stores: Vec<_> = locations(&renamed).await.into_iter().map(|(_, store, _)| store).collect();
    assert_eq!(stores, ["archive", "other"]);
    // A process that still has the old configuration works with the old name.
    moved.reconcile(Mode::Incremental).await;
    assert_eq!(file(&moved, &upload).await, mp3(900, 1));
    renamed.pass_the_deadline();
    assert_eq!(harm(&renamed.reconcile(Mode::Audit).await), [0; 6]);
}

#[tokio::test]
async fn a_bucket_that_is_replaced_under_the_name_of_its_store_is_a_new_location() {
    let world = World::new().await;
    let upload = world.upload().await;
    put(&world.store, &upload, 1).await;
    confirmed(&world, &upload).await;
    let new = bucket(&world);
    let replaced = |app: &mut App| {
        add(app, "default", &new);
        app.stores.get_mut("default").unwrap().bucket = "new".to_owned();
    };
    let without = world.restarted(replaced).await;
    without.app.register_locations().await.unwrap();
    assert_eq!(without.upload().await.location, LocationNumber(1));
    let error = without.app.upload_file(&world.owner, upload.id).await.unwrap_err();
    assert!(matches!(error, AppError::StoreUnconfigured { .. }), "{error}");
    let both = without.restarted(|app| add(app, "archive", &world.store)).await;
    both.app.register_locations().await.unwrap();
    assert_eq!(file(&both, &upload).await, mp3(900, 1));
}
