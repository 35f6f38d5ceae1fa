//! Moves of objects from a former location of their policy to the current one.

use std::sync::Arc;

use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::TryStreamExt as _;
use upload_coordinator::app::AppError;
use upload_coordinator::app::create_upload::NewUpload;
use upload_coordinator::domain::run::{
    Mode, MoveCounters, Moving, Run, RunRequest, RunStatus, Trigger,
};
use upload_coordinator::domain::upload::Declared;
use upload_coordinator::domain::{LocationNumber, Prefix, Status, Upload};
use upload_coordinator::reconcile::StartError;
use upload_coordinator::storage::memory::{MemoryStore, Operation};
use upload_coordinator::storage::transfer::Sizes;
use upload_coordinator::storage::{ObjectStore as _, PutOptions, StoreError};

use crate::support::mp3;
use crate::support::wait::wait_for;
use crate::support::world::World;

/// The name of the second store.
const NEW: &str = "new";

/// A service with uploads in its first store, and the same service configured with another store.
struct Moved {
    before: World,
    after: World,
    old: Arc<MemoryStore>,
    new: Arc<MemoryStore>,
}

impl Moved {
    /// With verified uploads of 900 bytes, one for each seed.
    async fn with(seeds: impl IntoIterator<Item = u8>) -> (Self, Vec<Upload>) {
        let before = World::with(|policy| policy.max_size = 64 << 20).await;
        let mut uploads = Vec::new();
        for seed in seeds {
            uploads.push(uploaded(&before, mp3(900, seed)).await);
        }
        let new = Arc::new(MemoryStore::new(before.clock.clone()).with_min_part_size(1));
        let after = at(&before, NEW, &new).await;
        after.app.check_buckets().await.unwrap();
        let old = before.store.clone();
        (Self { before, after, old, new }, uploads)
    }

    /// Configured with the first store again.
    async fn back(&self) -> World {
        let stores = self.after.app.stores.clone();
        self.before.restarted(|app| app.stores = stores).await
    }
}

/// The same service after a restart, with another store for new uploads.
async fn at(world: &World, name: &str, store: &Arc<MemoryStore>) -> World {
    let store = store.clone().store(name, None).unwrap();
    let change = |app: &mut upload_coordinator::app::App| {
        app.stores.insert(name.to_owned(), store);
        app.policies.values_mut().for_each(|policy| name.clone_into(&mut policy.store));
    };
    world.restarted(change).await
}

/// Declared so that its URL can be used only once.
fn declared() -> NewUpload {
    let content_type = Some("audio/mpeg".to_owned());
    NewUpload { declared: Declared { content_type, ..Declared::default() }, ..NewUpload::default() }
}

async fn uploaded(world: &World, bytes: Vec<u8>) -> Upload {
    let upload = world.create(declared()).await;
    world.put(&upload, bytes).await;
    let upload = world.app.confirm_upload(&world.owner, upload.id).await.unwrap();
    assert_eq!(upload.status(), Status::Uploaded);
    upload
}

fn request(world: &World, from: &str, dry_run: bool) -> RunRequest {
    let moving = Moving { from: from.to_owned(), concurrency: 4 };
    RunRequest::of_move(world.policy().name.clone(), moving, dry_run, Trigger::Api)
}

async fn move_from(world: &World, from: &str) -> Run {
    let run = world.reconciler.start(request(world, from, false)).await.unwrap().wait().await;
    assert_eq!(run.status, RunStatus::Succeeded, "{:?}", run.error);
    run
}

async fn file(world: &World, upload: &Upload) -> Vec<u8> {
    let file = world.app.read_file(&world.owner, upload.id).await.unwrap();
    file.bytes.try_collect::<Vec<Bytes>>().await.unwrap().concat()
}

/// The keys of objects, without markers.
fn keys(store: &MemoryStore) -> Vec<String> {
    store.keys().into_iter().filter(|key| !key.ends_with(".instance")).collect()
}

/// An audit that finds and changes nothing.
async fn quiet_audit(world: &World) {
    let run = world.reconcile(Mode::Audit).await;
    assert_eq!(run.status, RunStatus::Succeeded, "{:?}", run.error);
    assert_eq!(world.findings_with_details(&run).await, []);
    assert_eq!(run.counters.transitions(), 0, "{:?}", run.counters);
}

#[tokio::test]
async fn objects_move_while_everything_works_and_their_old_copies_are_deleted_later() {
    let (Moved { after, old, new, .. }, uploads) = Moved::with(1..=40).await;
    for upload in &uploads[..2] {
        assert_eq!(file(&after, upload).await.len(), 900);
    }
    let run = move_from(&after, "default").await;
    let expected =
        MoveCounters { moved: 40, bytes: 40 * 900, compared: 40, ..MoveCounters::default() };
    assert_eq!(run.counters.moves, expected);
    assert_eq!((keys(&new).len(), keys(&old).len()), (40, 40), "the old copies are kept");
    for (seed, upload) in (1..).zip(&uploads) {
        let moved = after.get(upload.id).await;
        assert_eq!((moved.location, moved.status()), (LocationNumber(1), Status::Uploaded));
        assert_eq!(moved.version, upload.version + 1);
        assert_eq!(file(&after, upload).await, mp3(900, seed));
    }
    after.pass_the_deadline();
    quiet_audit(&after).await;
    let again = move_from(&after, "default").await;
    assert_eq!(again.counters.moves, MoveCounters::default());

    // Nothing is deleted before the end of the retention, and then only what is not needed.
    after.pass(TimeDelta::hours(23));
    let lost = &uploads[0];
    new.delete(after.get(lost.id).await.key.as_str()).await.unwrap();
    let run = after.reconcile(Mode::Incremental).await;
    assert_eq!(run.counters.deleted, 39, "{:?} {:?}", run.counters, run.error);
    assert_eq!(keys(&old), [lost.key.to_string()], "the only copy of a lost object");
    let again = after.reconcile(Mode::Incremental).await;
    assert_eq!((again.counters.deleted, again.counters.head_requests), (0, 0));
    for (seed, upload) in (1..).zip(&uploads).skip(1) {
        assert_eq!(file(&after, upload).await, mp3(900, seed));
    }
}

#[tokio::test]
async fn what_cannot_be_moved_is_reported_and_stays() {
    let (Moved { before, after, old, new, .. }, uploads) = Moved::with(1..=5).await;
    let pending = before.create(declared()).await;
    // Its URL can still overwrite the object.
    let open = before.upload().await;
    before.put(&open, mp3(900, 8)).await;
    before.app.confirm_upload(&before.owner, open.id).await.unwrap();
    let [gone, changed, failing, good, rotten] = [0, 1, 2, 3, 4].map(|n| &uploads[n]);
    old.delete(gone.key.as_str()).await.unwrap();
    before.put(changed, mp3(900, 77)).await;
    // The bytes are not those on record, although the ETag is.
    let sum = upload_coordinator::domain::checksum::Checksum::of(
        upload_coordinator::domain::checksum::Algorithm::Crc32,
        b"other bytes",
    );
    after
        .execute(&format!(
            "UPDATE uploads SET checksum_algorithm = 'crc32', checksum = '{}' WHERE key = '{}'",
            sum.value(),
            rotten.key
        ))
        .await;
    let dry = after.reconciler.start(request(&after, "default", true)).await.unwrap().wait().await;
    let MoveCounters { moved, compared, open: still_open, failed, .. } = dry.counters.moves;
    assert_eq!((moved, compared, still_open, failed), (3, 0, 2, 2), "a dry run compares no bytes");
    assert_eq!(keys(&new), [""; 0]);

    new.fail_next(Operation::Put, 1, || StoreError::Refused {
        code: "AccessTooHard".into(),
        source: "no".into(),
    });
    let run = move_from(&after, "default").await;
    let stayed = after.get(failing.id).await.location == LocationNumber(0);
    let (failing, good) = if stayed { (failing, good) } else { (good, failing) };
    let expected =
        MoveCounters { moved: 1, bytes: 900, compared: 1, differences: 1, open: 2, failed: 4 };
    assert_eq!(run.counters.moves, expected);
    let findings_with_details = after.findings_with_details(&run).await;
    let detail = |upload: &Upload| {
        let found = findings_with_details
            .iter()
            .find(|(_, key, _)| *key == upload.key.to_string())
            .unwrap();
        assert_eq!(found.0, "not_moved");
        found.2.clone().unwrap()
    };
    assert_eq!(findings_with_details.len(), 4);
    assert_eq!((detail(gone).as_str(), detail(changed).as_str()), ("absent", "changed"));
    assert!(detail(rotten).contains("the expected checksum"), "{}", detail(rotten));
    assert!(detail(failing).contains("AccessTooHard"), "{}", detail(failing));
    for upload in [gone, changed, failing, rotten, &pending, &open] {
        let now = after.get(upload.id).await;
        assert_eq!((now.location, &now.key), (LocationNumber(0), &upload.key));
    }
    let seeds = if stayed { [3, 4] } else { [4, 3] };
    for (seed, upload) in seeds.into_iter().zip([failing, good]) {
        assert_eq!(file(&after, upload).await, mp3(900, seed));
    }

    // The store works again, and the URL of the open upload has ended.
    after.pass(TimeDelta::hours(26));
    let run = move_from(&after, "default").await;
    assert_eq!((run.counters.moves.moved, run.counters.moves.failed), (2, 3));
    assert_eq!(file(&after, &open).await, mp3(900, 8));
}

#[tokio::test]
async fn a_move_back_never_loses_an_object_to_the_deletion_of_its_old_copy() {
    let (moved, uploads) = Moved::with(1..=10).await;
    let Moved { after, old, new, .. } = &moved;
    move_from(after, "default").await;
    after.pass(TimeDelta::hours(23));
    let back = moved.back().await;
    let reads = new.calls(Operation::Read);
    let puts = keys(old).len();
    let run = move_from(&back, NEW).await;
    assert_eq!((run.counters.moves.moved, run.counters.moves.compared), (10, 10));
    // The marker is read too.
    assert!(new.calls(Operation::Read) < reads + 10, "the old copies are used again");
    assert_eq!(keys(old).len(), puts);
    // The old copies were due now. They are the live objects again, and the others are the copies.
    back.pass(TimeDelta::hours(2));
    let run = back.reconcile(Mode::Incremental).await;
    assert_eq!(run.counters.deleted, 0);
    back.pass(TimeDelta::hours(23));
    let run = back.reconcile(Mode::Incremental).await;
    assert_eq!(run.counters.deleted, 10, "{:?}", run.error);
    assert_eq!((keys(old).len(), keys(new).len()), (10, 0));
    for (seed, upload) in (1..).zip(&uploads) {
        assert_eq!(back.get(upload.id).await.location, LocationNumber(0));
        assert_eq!(file(&back, upload).await, mp3(900, seed));
    }
    quiet_audit(&back).await;
}

/// The URLs of the clients write at the location where they were signed, never at the current one.
#[tokio::test]
async fn a_moved_object_can_move_on_although_its_new_store_ignores_write_once() {
    let (moved, uploads) = Moved::with(1..=3).await;
    let ignores = |app: &mut upload_coordinator::app::App| {
        let store = app.stores.get_mut(NEW).unwrap();
        Arc::make_mut(&mut store.capabilities).write_once = false;
    };
    let after = moved.after.restarted(ignores).await;
    move_from(&after, "default").await;
    let upload = after.get(uploads[0].id).await;
    assert!(upload.url_expires_at < after.app.now() && uploads[0].url_expires_at > after.app.now());
    after.pass(TimeDelta::seconds(1));
    let stores = after.app.stores.clone();
    let back = moved.before.restarted(|app| app.stores = stores).await;
    let run = move_from(&back, NEW).await;
    assert_eq!((run.counters.moves.moved, run.counters.moves.open), (3, 0));
}

#[tokio::test]
async fn objects_of_parts_move_while_results_are_saved_on_the_only_connection() {
    let (Moved { before, after, new, .. }, _) = Moved::with([]).await;
    // Just over the size of one PUT: their parts are on record while they are copied.
    let large = usize::try_from(Sizes::default().part).unwrap() + 1;
    for n in 0..192 {
        // The large ones are in one of sixteen shards, together with as many small ones.
        let size = if n % 32 == 0 { large } else { 900 };
        uploaded(&before, mp3(size, n)).await;
    }
    let process = after.process(|settings| settings.save_every = std::time::Duration::ZERO).await;
    let id = process.start(request(&after, "default", false)).await;
    let run = wait_for("the end of the move", async || {
        let run = after.app.run(id).await.unwrap();
        (run.status != RunStatus::Running).then_some(run)
    })
    .await;
    assert_eq!((run.status, run.error), (RunStatus::Succeeded, None));
    assert_eq!((run.counters.moves.moved, keys(&new).len()), (192, 192));
}

#[tokio::test]
async fn an_upload_that_ends_during_its_copy_stays_ended_and_both_objects_are_deleted() {
    let (Moved { after, old, new, .. }, uploads) = Moved::with([1]).await;
    let gate = new.hold(Operation::Put);
    let run = after.reconciler.start(request(&after, "default", false)).await.unwrap();
    gate.next_call().await;
    after.app.delete_upload(&after.owner, uploads[0].id).await.unwrap();
    gate.open();
    let run = run.wait().await;
    assert_eq!((run.status, run.counters.moves.moved), (RunStatus::Succeeded, 0));
    assert_eq!((keys(&old).len(), keys(&new).len()), (1, 1));
    assert_eq!(after.get(uploads[0].id).await.location, LocationNumber(0));
    for _ in 0..2 {
        after.reconcile(Mode::Incremental).await;
    }
    assert_eq!((keys(&old), keys(&new)), (vec![], vec![]));
}

#[tokio::test]
async fn the_deletion_of_a_moved_upload_deletes_its_old_copy_too() {
    let (Moved { after, old, new, .. }, uploads) = Moved::with(1..=3).await;
    move_from(&after, "default").await;
    after.app.delete_upload(&after.owner, uploads[0].id).await.unwrap();
    for _ in 0..2 {
        after.reconcile(Mode::Incremental).await;
    }
    assert_eq!((keys(&old).len(), keys(&new).len()), (2, 2));
}

#[tokio::test]
async fn a_dead_process_is_continued_without_strays_and_without_copying_twice() {
    let (Moved { after, old, new, .. }, uploads) = Moved::with(1..=60).await;
    let process =
        after.process(|settings| settings.lease = std::time::Duration::from_secs(1)).await;
    let gate = new.hold(Operation::Put);
    let id = process.start(request(&after, "default", false)).await;
    gate.next_call().await;
    gate.let_through(25);
    wait_for("some copies", async || (keys(&new).len() >= 20).then_some(())).await;
    process.kill();
    gate.open();
    // The copies that no row names yet are known.
    let written = keys(&new).len();
    after.pass(TimeDelta::minutes(20));
    quiet_audit(&after).await;
    let puts = new.calls(Operation::Put);
    let run = loop {
        if let Some(handle) = after.reconciler.join(id).await {
            break handle.wait().await;
        }
        if after.app.run(id).await.unwrap().status != RunStatus::Running {
            break after.app.run(id).await.unwrap();
        }
    };
    assert_eq!((run.status, run.counters.moves.moved), (RunStatus::Succeeded, 60));
    assert!(new.calls(Operation::Put) - puts <= 60 - written + 4, "copies are used again");
    for (seed, upload) in (1..).zip(&uploads) {
        assert_eq!(file(&after, upload).await, mp3(900, seed));
    }
    assert_eq!((keys(&old).len(), keys(&new).len()), (60, 60));
    quiet_audit(&after).await;
}

#[tokio::test]
async fn large_objects_move_in_parts_and_keep_their_checksum() {
    let (Moved { before, after, new, .. }, _) = Moved::with([]).await;
    let bytes = mp3(20 << 20, 3);
    let upload = uploaded(&before, bytes.clone()).await;
    let run = move_from(&after, "default").await;
    assert_eq!((run.counters.moves.moved, run.counters.moves.bytes), (1, 20 << 20));
    assert_eq!(new.calls(Operation::UploadPart), 3);
    assert_eq!(after.app.db.multipart_aborts().count().await.unwrap(), 0);
    assert!(file(&after, &upload).await == bytes);
    let now = after.get(upload.id).await;
    assert!(now.state.facts().unwrap().checksum.is_some());
    // The same bytes again are known to be the same.
    let options = PutOptions { content_type: Some("audio/mpeg".into()), ..PutOptions::default() };
    new.put(now.key.as_str(), bytes.into(), &options).await.unwrap();
    after.reconcile(Mode::Audit).await;
    assert_eq!(after.get(upload.id).await.status(), Status::Uploaded);
}

#[tokio::test]
async fn a_changed_prefix_moves_within_a_store() {
    let (Moved { before, old, .. }, uploads) = Moved::with(1..=5).await;
    let prefix = Prefix::parse("other/").unwrap();
    let change = |app: &mut upload_coordinator::app::App| {
        app.policies.values_mut().for_each(|policy| policy.prefix = prefix.clone());
    };
    let after = before.restarted(change).await;
    after.app.check_buckets().await.unwrap();
    let run = move_from(&after, "default").await;
    assert_eq!(run.counters.moves.moved, 5);
    for (seed, upload) in (1..).zip(&uploads) {
        assert!(after.get(upload.id).await.key.as_str().starts_with("other/"));
        assert_eq!(file(&after, upload).await, mp3(900, seed));
    }
    after.pass(TimeDelta::hours(25));
    assert_eq!(after.reconcile(Mode::Incremental).await.counters.deleted, 5);
    assert_eq!(keys(&old).len(), 5);
}

#[tokio::test]
async fn only_a_former_location_can_be_moved_from_and_one_move_runs_at_a_time() {
    let (Moved { before, after, new, .. }, _) = Moved::with(1..=3).await;
    let refused = async |world: &World, from: &str| match world
        .reconciler
        .start(request(world, from, false))
        .await
        .map(|_| ())
    {
        Err(StartError::App(AppError::Invalid(errors))) => errors.0["from"][0].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(&before, "default").await,
        "`default` is the store of the current location of the policy `tracks`"
    );
    assert_eq!(
        refused(&after, "elsewhere").await,
        "The policy `tracks` has no former location on the store `elsewhere`"
    );
    let gate = new.hold(Operation::Put);
    let first = after.reconciler.start(request(&after, "default", false)).await.unwrap();
    gate.next_call().await;
    let second = after.reconciler.start(request(&after, "default", false)).await;
    assert!(matches!(second.map(|_| ()), Err(StartError::Held(id)) if id == first.run.id));
    // Audits go on beside it.
    after.pass(TimeDelta::minutes(20));
    quiet_audit(&after).await;
    let cancelled = after.reconciler.cancel(first.run.id).await.unwrap();
    assert_eq!(cancelled.status, RunStatus::Cancelled);
    gate.open();
    assert_eq!(move_from(&after, "default").await.counters.moves.moved, 3);
}

#[tokio::test]
async fn a_store_that_fails_for_a_moment_is_tried_again() {
    let (Moved { after, new, .. }, _) = Moved::with(1..=3).await;
    let gate = new.hold(Operation::Put);
    let run = after.reconciler.start(request(&after, "default", false)).await.unwrap();
    gate.next_call().await;
    new.fail_next(Operation::Put, 1, || StoreError::Unavailable("down".into()));
    new.lose_next(Operation::Put, 1);
    gate.open();
    let run = run.wait().await;
    assert_eq!(run.status, RunStatus::Succeeded, "{:?}", run.error);
    assert_eq!((run.counters.moves.moved, run.counters.moves.failed), (3, 0));
}
