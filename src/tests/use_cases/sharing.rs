//! Runs on which several processes work, and which continue if a process ends.

use std::sync::Arc;
use std::time::Duration;

use entity::reconcile_shard::Model as Shard;
use futures_util::future::join_all;
use upload_coordinator::app::App;
use upload_coordinator::db::reconcile::runs::{NewRun, Started};
use upload_coordinator::db::reconcile::shards::{Batch, Finished, ShardProgress};
use upload_coordinator::db::uploads::Change;
use upload_coordinator::domain::clock::SystemClock;
use upload_coordinator::domain::history::Cause;
use upload_coordinator::domain::run::{
    CandidateKind, Counters, Finding, FindingKind, Mode, NewShard, RunRequest, RunStatus,
    ShardStatus, Stage, Trigger,
};
use upload_coordinator::domain::transition::step;
use upload_coordinator::domain::upload::ConfirmedBy;
use upload_coordinator::domain::{Clock as _, LocationNumber, PolicyName, RunId, Status};
use upload_coordinator::reconcile::{CancelError, ReconcileSettings, Reconciler};
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::workers::scheduler::{Scheduler, Schedules};

use crate::support::mp3;
use crate::support::wait::wait_for;
use crate::support::world::World;

const LEASE: Duration = Duration::from_secs(30);

fn audit() -> RunRequest {
    let trigger = Trigger::Api;
    RunRequest::of(Mode::Audit, trigger)
}

/// A run with one claimed shard.
fn audit_of<'a>(world: &World, policy: &'a PolicyName, shards: &'a [NewShard]) -> NewRun<'a> {
    NewRun {
        id: RunId(world.app.ids.uuid()),
        request: audit(),
        policies: std::slice::from_ref(policy),
        shards,
        scheduled_for: None,
        holder: world.app.ids.uuid(),
        claims: 1,
        lease: LEASE,
    }
}

pub(super) async fn with_uploads(count: usize) -> World {
    let world = World::new().await;
    for seed in 0..count {
        let upload = world.upload().await;
        world.put(&upload, mp3(900, u8::try_from(seed % 250).unwrap())).await;
    }
    world
}

#[tokio::test]
async fn a_process_that_lost_the_lease_of_a_shard_writes_nothing() {
    let world = World::new().await;
    let upload = world.upload().await;
    world.put(&upload, mp3(900, 1)).await;
    let (db, policy) = (&world.app.db, world.app.policies.values().next().unwrap());
    let range = Some(policy.prefix.whole());
    let shards = [NewShard {
        policy: policy.name.clone(),
        location: LocationNumber(0),
        range,
        finalizes: true,
    }];
    // This lease expires at once.
    let new = NewRun { lease: Duration::ZERO, ..audit_of(&world, &policy.name, &shards) };
    let now = world.clock.now();
    let Started::Run(run, mine) = db.runs().start(new, now).await.unwrap() else { panic!() };
    let mine = &mine[0];
    let other = world.app.ids.uuid();
    let theirs = db.shards().claim(run.id, other, LEASE).await.unwrap().unwrap();
    assert!(theirs.fence > mine.fence);
    assert_eq!(
        db.shards().claim(run.id, other, LEASE).await.unwrap(),
        None,
        "another process holds it"
    );

    let event = world.app.observe_object(&upload, ConfirmedBy::Scan).await.unwrap();
    let step = step(upload.clone(), event.clone(), now, policy).unwrap();
    let change = || Change {
        upload: step.upload.clone(),
        effects: step.effects.clone(),
        policy,
        from: upload.status(),
        cause: Cause::of(&event, &step.upload.state),
        left_behind: None,
    };
    let finding = Finding {
        kind: FindingKind::Orphan,
        policy: policy.name.clone(),
        key: "k".into(),
        upload: None,
        size: None,
        detail: None,
        found_at: now,
    };
    let progress = ShardProgress {
        at: Some((Stage::Compare, Some("tracks/0".into()))),
        findings: vec![finding],
        candidates: vec![(CandidateKind::Missing, upload.id)],
        ..ShardProgress::default()
    };
    let saved =
        db.shards().save(mine, LEASE, vec![change()], now, |_| progress.clone()).await.unwrap();
    assert!(matches!(saved, Batch::Lost), "{saved:?}");
    assert!(!db.shards().renew(mine, LEASE).await.unwrap());
    assert_eq!(db.shards().spend_deletions(mine, LEASE, 5, 10).await.unwrap(), None);
    let finished = db
        .shards()
        .finish(mine, (ShardStatus::Done, None), &progress, (other, LEASE), now)
        .await
        .unwrap();
    assert!(matches!(finished, Finished::Lost), "{finished:?}");
    assert_eq!(world.get(upload.id).await, upload);
    assert_eq!(world.findings(&run).await, []);
    assert_eq!(world.shards(run.id).await[0].cursor, None);
    assert_eq!(db.missing_candidates().count(&theirs, &CandidateKind::HELD).await.unwrap(), 0);
    assert_eq!(db.shards().spent_deletions(run.id).await.unwrap(), 0);

    // The holder of the shard writes the same changes in one transaction.
    let saved = db.shards().save(&theirs, LEASE, vec![change()], now, |_| progress.clone()).await;
    assert!(matches!(saved.unwrap(), Batch::Saved(_)));
    assert_eq!(world.get(upload.id).await.status(), Status::Uploaded);
    assert_eq!(world.findings(&run).await.len(), 1);
    assert_eq!(world.shards(run.id).await[0].cursor.as_deref(), Some("tracks/0"));
    // If another writer has changed the upload first, the holder writes nothing.
    let raced = db.shards().save(&theirs, LEASE, vec![change()], now, |_| progress.clone()).await;
    assert!(matches!(raced.unwrap(), Batch::Raced(lost) if lost == [0]));
    assert_eq!(world.findings(&run).await.len(), 1);
    // After the run is cancelled, the holder writes nothing either.
    world.reconciler.cancel(run.id).await.unwrap();
    assert!(!db.shards().renew(&theirs, LEASE).await.unwrap());
    let again = world.reconciler.cancel(run.id).await;
    assert!(matches!(again, Err(CancelError::Ended(RunStatus::Cancelled))), "{again:?}");
}

#[tokio::test]
async fn shards_that_end_at_once_share_a_commit_except_a_shard_whose_lease_is_lost() {
    let world = World::new().await;
    let (db, policy) = (&world.app.db, world.app.policies.values().next().unwrap());
    let range = Some(policy.prefix.whole());
    let shard = |finalizes| NewShard {
        policy: policy.name.clone(),
        location: LocationNumber(0),
        range: range.clone(),
        finalizes,
    };
    let shards: Vec<_> = (0..=8).map(|n| shard(n == 8)).collect();
    let new = NewRun { claims: 8, ..audit_of(&world, &policy.name, &shards) };
    let holder = new.holder;
    let now = world.clock.now();
    let Started::Run(run, mut claimed) = db.runs().start(new, now).await.unwrap() else { panic!() };
    let (claim, done) = ((holder, LEASE), || (ShardStatus::Done, None));
    let listed = |listed| ShardProgress {
        counters: Counters { listed, ..Counters::default() },
        ..ShardProgress::default()
    };
    claimed[3].fence -= 1;
    let progress_of: Vec<_> = (1..=8).map(listed).collect();
    let ends = claimed.iter().zip(&progress_of);
    let ends =
        ends.map(|(shard, progress)| db.shards().finish(shard, done(), progress, claim, now));
    let ended: Vec<_> = join_all(ends).await.into_iter().map(Result::unwrap).collect();
    assert!(matches!(ended[3], Finished::Lost), "{ended:?}");
    let number = |which: fn(&Finished) -> bool| ended.iter().filter(|end| which(end)).count();
    let others = number(|end| matches!(end, Finished::Lost));
    let going_on = number(|end| matches!(end, Finished::Shard(Some(_))));
    assert_eq!(
        (others, going_on),
        (1, 0),
        "the finalizing shard waits for the other shard: {ended:?}"
    );
    claimed[3].fence += 1;
    let last = db.shards().finish(&claimed[3], done(), &progress_of[3], claim, now).await.unwrap();
    let Finished::Shard(Some(finalizing)) = last else { panic!("{last:?}") };
    assert!(finalizing.finalizes);
    let last = db.shards().finish(&finalizing, done(), &listed(0), claim, now).await.unwrap();
    let Finished::Run(progress) = last else { panic!("{last:?}") };
    assert_eq!(progress.run.status, RunStatus::Succeeded);
    assert_eq!((progress.run.id, progress.run.counters.listed), (run.id, 36));
}

/// A run over `uploads` uploads that all arrived, with `at_once` concurrent shards. Its process is
/// killed when the state of the shards is `midway`.
async fn killed(mode: Mode, uploads: u64, at_once: usize, midway: fn(&[Shard]) -> bool) {
    let world = with_uploads(usize::try_from(uploads).unwrap()).await;
    let dry = world.reconcile_with(|request| request.dry_run = true, mode).await;
    let before = world.store.calls(Operation::List);
    let gate = world.store.hold(Operation::List);
    let process = world
        .process(|settings| {
            settings.save_every = Duration::ZERO;
            settings.shards = at_once;
        })
        .await;
    let run = process.start(RunRequest { mode, ..audit() }).await;
    // Each shard waits for a page. The pages before it are processed and committed.
    for _ in 0..at_once {
        gate.next_call().await;
    }
    while !midway(&world.shards(run).await) {
        gate.let_through(1);
        gate.next_call().await;
    }
    let dead = process.kill();
    assert_eq!(world.app.db.runs().find(run).await.unwrap().unwrap().status, RunStatus::Running);
    assert!(!world.app.db.runs().is_unclaimed(run).await.unwrap(), "its leases have not expired");
    // Replaces waiting until the leases expire.
    world.app.db.shards().release_all(dead).await.unwrap();
    assert!(world.app.db.runs().is_unclaimed(run).await.unwrap());
    gate.open();
    let ended = world.reconciler.join(run).await.unwrap().wait().await;
    assert_eq!(ended.status, RunStatus::Succeeded, "{:?}", ended.error);
    let mut counters = ended.counters;
    // A shard that was interrupted requests its page again.
    let listed = world.store.calls(Operation::List) - before;
    assert!(listed as u64 <= dry.counters.list_requests + 4, "{listed} of {:?}", dry.counters);
    counters.list_requests = dry.counters.list_requests;
    assert_eq!(counters, dry.counters);
    assert_eq!(counters.confirmed, uploads);
    assert_eq!(world.reconcile(Mode::Audit).await.counters.transitions(), 0);
}

#[tokio::test]
async fn a_killed_audit_continues_from_its_cursors_and_counts_nothing_twice() {
    killed(Mode::Audit, 300, 2, |shards| {
        let done = shards.iter().any(|shard| shard.status == "done");
        done && shards.iter().any(|shard| shard.status == "open" && shard.cursor.is_some())
    })
    .await;
}

#[tokio::test]
async fn an_incremental_run_killed_between_parts_continues_with_the_remaining_parts() {
    // Too many for one statement, but few enough for one shard: it checks part after part.
    killed(Mode::Incremental, 505, 1, |shards| {
        let [shard] = shards else { panic!("{shards:?}") };
        shard.cursor.as_ref().is_some_and(|cursor| cursor.starts_with("tracks/5"))
    })
    .await;
}

#[tokio::test]
async fn a_process_that_shuts_down_releases_its_runs_at_once() {
    let world = with_uploads(40).await;
    let gate = world.store.hold(Operation::List);
    let first = world.process(|_| {}).await;
    let run = first.start(audit()).await;
    gate.next_call().await;
    first.reconciler.shut_down().await;
    assert!(world.app.db.runs().is_unclaimed(run).await.unwrap());
    assert_eq!(world.app.db.runs().find(run).await.unwrap().unwrap().status, RunStatus::Running);
    gate.open();
    // This process works on runs by itself, like every serving process.
    world.reconciler.take_part();
    let ended = match world.reconciler.join(run).await {
        Some(handle) => handle.wait().await,
        // The run had already ended.
        None => world.app.db.runs().find(run).await.unwrap().unwrap(),
    };
    assert_eq!((ended.status, ended.counters.confirmed), (RunStatus::Succeeded, 40));
}

#[tokio::test]
async fn processes_share_a_run_and_each_shard_is_worked_on_once() {
    let world = with_uploads(200).await;
    let throttle = |settings: &mut ReconcileSettings| {
        settings.shards = 2;
        settings.max_requests_per_second = 30;
    };
    let (one, two) = (world.process(throttle).await, world.process(throttle).await);
    two.reconciler.take_part();
    let run = one.start(audit()).await;
    let ended = one.reconciler.join(run).await.unwrap().wait().await;
    assert_eq!((ended.status, ended.counters.confirmed), (RunStatus::Succeeded, 200));
    let rows = world.shards(run).await;
    assert!(rows.iter().all(|row| row.fence == 1 && row.status == "done"), "{rows:?}");
    let holders: std::collections::BTreeSet<_> = rows.iter().map(|row| row.holder).collect();
    assert_eq!(holders.len(), 2, "{rows:?}");
}

#[tokio::test]
async fn a_cancelled_run_ends_in_whichever_process_works_on_it() {
    let world = with_uploads(60).await;
    let gate = world.store.hold(Operation::Head);
    let process = world.process(|_| {}).await;
    let run = process.start(audit()).await;
    // Within a page: the marker was read, and HEADs are in progress.
    gate.next_call().await;
    gate.let_through(1);
    gate.next_call().await;
    world.reconciler.cancel(run).await.unwrap();
    gate.open();
    let ended = world.app.db.runs().find(run).await.unwrap().unwrap();
    assert_eq!((ended.status, ended.counters.confirmed), (RunStatus::Cancelled, 0));
    // The next run gets the locks and finds everything unchanged.
    let next = world.reconcile(Mode::Audit).await;
    assert_eq!((next.status, next.counters.confirmed), (RunStatus::Succeeded, 60));
    assert_eq!(world.app.db.runs().find(run).await.unwrap().unwrap(), ended);
}

#[tokio::test]
async fn an_incremental_run_with_nothing_to_do_sends_no_requests_to_the_store() {
    let world = with_uploads(5).await;
    world.reconcile(Mode::Incremental).await;
    world.pass(chrono::TimeDelta::hours(30));
    let calls = |world: &World| {
        [Operation::Head, Operation::List, Operation::Read].map(|kind| world.store.calls(kind))
    };
    let before = calls(&world);
    let idle = world.reconcile(Mode::Incremental).await;
    assert_eq!(idle.status, RunStatus::Succeeded);
    assert_eq!(calls(&world), before);
    assert_eq!(world.shards(idle.id).await, []);
    assert_eq!(idle.finished_at, Some(idle.started_at));
    // A run with little to do has one shard.
    world.upload().await;
    let little = world.reconcile(Mode::Incremental).await;
    assert_eq!(world.shards(little.id).await.len(), 1);
    assert_eq!((little.counters.head_requests, little.counters.list_requests), (1, 0));
}

#[tokio::test]
async fn a_run_of_a_policy_that_is_no_longer_configured_fails() {
    let world = with_uploads(3).await;
    let (configured, gone) = (PolicyName::default(), PolicyName::new("gone"));
    let range = world.app.policies[&configured].prefix.whole();
    let shard = |policy: &PolicyName| NewShard {
        policy: policy.clone(),
        location: LocationNumber(0),
        range: Some(range.clone()),
        finalizes: true,
    };
    let new = NewRun {
        id: RunId(world.app.ids.uuid()),
        request: audit(),
        policies: &[configured.clone(), gone.clone()],
        shards: &[shard(&gone), shard(&configured)],
        scheduled_for: None,
        holder: world.app.ids.uuid(),
        claims: 0,
        lease: LEASE,
    };
    let started = world.app.db.runs().start(new, world.clock.now()).await.unwrap();
    let Started::Run(run, claimed) = started else { panic!("{started:?}") };
    assert_eq!(claimed, []);
    let ended = world.reconciler.join(run.id).await.unwrap().wait().await;
    assert_eq!(ended.status, RunStatus::Failed);
    assert!(ended.error.unwrap().contains("policies.gone"));
    assert_eq!(ended.counters.confirmed, 3, "the other policy is reconciled too");
}

#[tokio::test]
async fn several_schedulers_start_one_run_per_tick() {
    let world = World::new().await;
    let schedules = Schedules { incremental: Some("* * * * * *".into()), ..Schedules::default() };
    let mut started = Vec::new();
    for _ in 0..3 {
        let app = App { clock: Arc::new(SystemClock), ..world.replica().await };
        let reconciler = Arc::new(Reconciler::new(Arc::new(app), ReconcileSettings::default()));
        started.push(Scheduler::start(&reconciler, &schedules).await.unwrap());
    }
    let begun = std::time::Instant::now();
    let runs = wait_for("four scheduled runs", async || {
        let runs = world.app.db.runs().list(Mode::ALL, None, 100).await.unwrap().items;
        (runs.len() >= 4).then_some(runs)
    })
    .await;
    for scheduler in started {
        scheduler.stop().await.unwrap();
    }
    let ticks = world.ticks().await;
    assert!(ticks.iter().all(Option::is_some));
    let distinct: std::collections::BTreeSet<_> = ticks.iter().collect();
    assert_eq!(distinct.len(), ticks.len(), "{ticks:?}");
    // At most one run for each second that has passed, including the first and the last one.
    assert!(runs.len() as u64 <= begun.elapsed().as_secs() + 2, "{} runs", runs.len());
}
