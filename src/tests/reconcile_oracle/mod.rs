//! Random worlds from seeds. Clients do everything that they can do, while the store fails. An
//! oracle, which is independent of the service's code, predicts the final state of each upload.
//!
//! Worlds in memory and on a real server have failures of every kind. On a real server, connections
//! are dropped too. `TEST_LONG=1` runs 2,000 worlds in memory and 50 on a real server. `TEST_SEEDS`
//! and `TEST_WIRE_SEEDS` set these numbers, `TEST_FIRST_SEED` sets the first seed. `TEST_SEED=7`
//! runs only the world with that seed.

mod copies;
mod fates;
mod inspected;
mod oracle;
mod trouble;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use upload_coordinator::domain::clock::ManualClock;
use upload_coordinator::domain::run::{Mode, Run, RunRequest, RunStatus, Trigger};
use upload_coordinator::domain::{Clock as _, IdSource};
use upload_coordinator::storage::capabilities::Capabilities;
use upload_coordinator::storage::memory::{ListFailure, Operation};
use upload_coordinator::storage::s3::Timeouts;
use upload_coordinator::storage::{ListRequest, ObjectStore as _, StoreError};
use uuid::{Builder, Uuid};

use crate::storage::servers::Subject;
use crate::support::failing_proxy::{FailingProxy, Failure};
use crate::support::proxy::Proxy;
use crate::support::world::World;
use fates::{Act, Script};
use oracle::Oracle;
use oracle::attaching::{remove_unclaimed, set_retention};
use trouble::Trouble;

/// Version 7 ids that are generated from the test's clock and a seed.
struct SeededIds {
    clock: Arc<ManualClock>,
    rng: Mutex<StdRng>,
}

impl IdSource for SeededIds {
    fn uuid(&self) -> Uuid {
        let mut random = [0; 10];
        self.rng.lock().unwrap().fill_bytes(&mut random);
        let millis = u64::try_from(self.clock.now().timestamp_millis()).unwrap();
        Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

fn seeds(variable: &str, usually: u64, long: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let count = if std::env::var("TEST_LONG").is_ok() { long } else { usually };
    if let Some(seed) = number("TEST_SEED") {
        return vec![seed];
    }
    let first = number("TEST_FIRST_SEED").unwrap_or(0);
    (first..first + number(variable).unwrap_or(count)).collect()
}

#[test]
fn every_upload_ends_as_predicted_although_the_store_fails() {
    let queue = Mutex::new(seeds("TEST_SEEDS", 200, 2000));
    // Each world has its own thread and runtime, so that a seed is as repeatable as the threads of
    // the database allow.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(seed) = queue.lock().unwrap().pop() else { break };
                    attempt(seed, live(seed));
                }
            });
        }
    });
}

#[test]
fn every_upload_ends_as_predicted_on_a_real_server() {
    for seed in seeds("TEST_WIRE_SEEDS", 5, 50) {
        attempt(seed, live_on_a_server(seed));
    }
}

fn attempt(seed: u64, world: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = std::panic::AssertUnwindSafe(|| runtime.block_on(world));
    if let Err(panic) = std::panic::catch_unwind(world) {
        eprintln!("seed {seed} failed: TEST_SEED={seed} runs it alone");
        std::panic::resume_unwind(panic);
    }
}

/// A world in memory.
async fn live(seed: u64) {
    let world = World::build(
        |policies| policies.values_mut().for_each(|policy| set_retention(policy, seed)),
        |clock| Arc::new(SeededIds { clock, rng: Mutex::new(StdRng::seed_from_u64(seed)) }),
    )
    .await;
    live_in(&world, None, seed).await;
}

/// The proxies between the service and its store, which alter responses and drop connections.
struct Wire {
    proxy: FailingProxy,
    cable: Proxy,
}

/// A world on a real server, behind proxies that alter responses and drop connections.
async fn live_on_a_server(seed: u64) {
    let host = Subject::server().await;
    let server = host.with_own_bucket().await.unwrap();
    let cable = Proxy::before(server.authority()).await;
    let proxy = FailingProxy::before(cable.addr.to_string()).await;
    let wire = Wire { proxy, cable };
    let attempt = Duration::from_millis(1500);
    // The client retries only once, so that many failures reach the run.
    let (max_attempts, timeouts) = (2, Timeouts { attempt, ..Timeouts::default() });
    // In every second world, the prefix is listed as one range, so that it has several pages.
    let capabilities = server.kind.capabilities();
    let start_after = capabilities.start_after && seed.is_multiple_of(2);
    let capabilities = Capabilities { start_after, ..capabilities };
    let bucket = server.through(wire.proxy.addr, max_attempts, timeouts, capabilities).await;
    let world = World::build_on(
        Some(bucket),
        |policies| policies.values_mut().for_each(|policy| set_retention(policy, seed)),
        |clock| Arc::new(SeededIds { clock, rng: Mutex::new(StdRng::seed_from_u64(seed)) }),
    )
    .await;
    live_in(&world, Some(&wire), seed).await;
}

/// Runs one world, from its first upload to the end of its last one.
async fn live_in(world: &World, wire: Option<&Wire>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    // Writes the marker, because a dry run does not write it.
    world.reconcile(Mode::Incremental).await;
    let trouble = Trouble::of(seed);
    let (world, strict) = trouble.worlds(world).await;
    let mut world = &world;
    let mut oracle = Oracle::new(world);
    let script = Script::new(&mut rng);
    let mut minute = 0;
    for (at, act) in script.acts {
        world.pass(TimeDelta::minutes(at - minute));
        minute = at;
        if matches!(act, Act::Trouble) {
            if world.is_in_memory() {
                calm(world).await;
            }
            trouble.come(world, &strict, &mut oracle, &mut rng).await;
            if matches!(trouble, Trouble::StricterRules { .. }) {
                world = &strict;
            }
        } else {
            oracle.act(act, &mut rng).await;
        }
        if rng.random_bool(0.12) {
            match wire {
                None => {
                    spoil(world, &mut rng);
                    run_some(world, &oracle, &mut rng).await;
                }
                Some(wire) if rng.random_bool(0.3) => {
                    let (up, down) = (rng.random_range(0..200), rng.random_range(0..1500));
                    let flicker = flicker(&wire.cable, up, down);
                    tokio::join!(run_some(world, &oracle, &mut rng), flicker);
                }
                Some(wire) => {
                    spoil_wire(&wire.proxy, &mut rng);
                    run_some(world, &oracle, &mut rng).await;
                    wire.proxy.calm();
                }
            }
            oracle.check_safety().await;
        }
    }
    if world.is_in_memory() {
        calm(world).await;
    }
    trouble::operate(world, &oracle, &mut rng).await;
    settle(world, &mut oracle).await;
}

/// Drops the connections after `up` milliseconds, for `down` milliseconds. The random times decide
/// which request is hit; nothing waits for an effect here.
async fn flicker(proxy: &Proxy, up: u64, down: u64) {
    tokio::time::sleep(Duration::from_millis(up)).await;
    proxy.cut();
    tokio::time::sleep(Duration::from_millis(down)).await;
    proxy.restore();
}

/// Runs one mode, or both at the same time.
async fn run_some(world: &World, oracle: &Oracle<'_>, rng: &mut StdRng) {
    let runs = match rng.random_range(0..5) {
        0 => vec![world.reconcile(Mode::Audit).await],
        1 => vec![world.reconcile_with(|request| request.dry_run = true, Mode::Audit).await],
        2 => vec![world.reconcile(Mode::Incremental).await],
        // Only in memory: a client's connections end with the runtime that opened them.
        3 if world.is_in_memory() => vec![killed(world, rng).await],
        _ => {
            let (one, two) = tokio::join!(run(world, Mode::Audit), run(world, Mode::Incremental));
            vec![one, two]
        }
    };
    for run in runs {
        if run.status == RunStatus::Stopped {
            let error = run.error.unwrap();
            let expected = !oracle.retagged.is_empty() && error.contains(trouble::OWNER);
            assert!(expected, "{error}");
        }
        assert!(run.counters.orphans <= oracle.orphans.len() as u64, "more orphans than exist");
        assert!(
            run.counters.foreign <= oracle.foreign.len() as u64,
            "more foreign objects were reported than exist"
        );
    }
}

/// A run whose process is killed at a random moment. Another process finishes the run.
async fn killed(world: &World, rng: &mut StdRng) -> Run {
    let mode = if rng.random_bool(0.7) { Mode::Audit } else { Mode::Incremental };
    let every = Duration::from_millis(if rng.random_bool(0.5) { 0 } else { 1000 });
    let process = world.process(|settings| settings.save_every = every).await;
    let trigger = Trigger::Schedule;
    let request = RunRequest::of(mode, trigger);
    let id = process.start(request).await;
    // The random time decides where the kill happens; nothing waits for an effect here.
    tokio::time::sleep(Duration::from_micros(rng.random_range(0..30_000))).await;
    let dead = process.kill();
    // Replaces waiting until the leases expire. Tasks of the killed process may still be running.
    world.app.db.shards().release_all(dead).await.unwrap();
    match world.reconciler.join(id).await {
        Some(handle) => handle.wait().await,
        None => world.app.db.runs().find(id).await.unwrap().unwrap(),
    }
}

async fn run(world: &World, mode: Mode) -> Run {
    let trigger = Trigger::Schedule;
    let request = RunRequest::of(mode, trigger);
    world.reconciler.start(request).await.unwrap().wait().await
}

/// Plans a few failures for the next requests.
fn spoil(world: &World, rng: &mut StdRng) {
    for operation in [
        Operation::Head,
        Operation::Read,
        Operation::List,
        Operation::Delete,
        Operation::ListParts,
        Operation::AbortMultipart,
    ] {
        if rng.random_bool(0.25) {
            let times = rng.random_range(1..4);
            if rng.random_bool(0.3) {
                world.store.lose_next(operation, times);
            } else {
                let fail = || StoreError::Unavailable("503 SlowDown".into());
                world.store.fail_next(operation, times, fail);
            }
        }
    }
    if rng.random_bool(0.4) {
        let failures = [ListFailure::Repeat, ListFailure::CutOff, ListFailure::Descend];
        let pages: Vec<_> = (0..rng.random_range(1..12))
            .map(|_| rng.random_bool(0.4).then(|| failures[rng.random_range(0..3)]))
            .collect();
        world.store.spoil_lists(pages);
    }
}

/// Plans failures for some of the next requests.
fn spoil_wire(proxy: &FailingProxy, rng: &mut StdRng) {
    let mut some = |of: &[Failure], often: f64| -> Vec<Option<Failure>> {
        (0..rng.random_range(1..30))
            .map(|_| rng.random_bool(often).then(|| of[rng.random_range(0..of.len())]))
            .collect()
    };
    proxy.spoil(some(&Failure::ANY, 0.4));
    proxy.spoil_lists(some(&Failure::LISTS, 0.4));
}

/// Uses up the failures that are still planned.
async fn calm(world: &World) {
    let (store, key) = (&world.store, "nothing/here");
    for _ in 0..100 {
        let _ = store.head(key).await;
        let _ = store.read(key, 0..1, "etag").await;
        let _ = store.list(&ListRequest { prefix: key.into(), ..ListRequest::default() }).await;
        let _ = store.delete(key).await;
        let _ = store.list_parts(key, "id").await;
        let _ = store.abort_multipart(key, "id").await;
    }
}

/// With a working store: everything reaches the predicted state, and then does not change.
async fn settle(world: &World, oracle: &mut Oracle<'_>) {
    for hours in [30, 30] {
        world.pass(TimeDelta::hours(hours));
        let before = oracle.rows().await;
        let dry = world.reconcile_with(|request| request.dry_run = true, Mode::Audit).await;
        // Read now, because the real run updates the same findings.
        let reported = world.findings_with_details(&dry).await;
        oracle.check_safety().await;
        let real = world.reconcile(Mode::Audit).await;
        assert_eq!(real.status, RunStatus::Succeeded, "{:?}", real.error);
        let done = world.findings_with_details(&real).await;
        let after = oracle.rows().await;
        let changes: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
        assert_eq!(
            (dry.counters, reported),
            (real.counters, done),
            "a dry run reports what a real run does; the rows before and after: {changes:#?}"
        );
        oracle.check_safety().await;
    }
    remove_unclaimed(world).await;
    world.pass(TimeDelta::minutes(1));
    for mode in [Mode::Incremental, Mode::Audit] {
        let last = world.reconcile(mode).await;
        assert_eq!(last.status, RunStatus::Succeeded, "{:?}", last.error);
        assert_eq!((last.counters.transitions(), last.counters.errors), (0, 0));
        if mode == Mode::Audit {
            oracle.check_end(&last).await;
        }
    }
}
