//! Moves between real servers while clients upload and download, while the processes that move are
//! killed, and while objects are overwritten and deleted behind the service's back: embedded server
//! → the servers of the environment, one after the other (another embedded one by default) →
//! embedded server. `scripts/test` runs it on SeaweedFS and Azurite.
//!
//! `TEST_LONG=1` moves 10,000 objects. 300 of them are made of parts, and 50 of these have more than
//! 100 MiB: 7 GiB in each store.

mod client;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use sea_orm::{ColumnTrait as _, DatabaseConnection, EntityTrait as _, QueryFilter as _};
use serde_json::json;
use upload_coordinator::storage::PutOptions;
use uuid::Uuid;

use self::client::{Api, PART, StoredFile, work};
use crate::storage::servers::{Subject, now};
use crate::support::database::TestDatabase;
use crate::support::live::{Live, text};
use crate::support::mp3;
use crate::support::wait::wait_for_at_most;

/// The time limit of one leg.
const LEG: Duration = Duration::from_mins(20);

/// How often a process is killed while it moves objects, in all legs together.
const KILLS: usize = 10;

/// The objects that are overwritten and deleted in one leg, half of them before the move.
const SPOILED: usize = 4;

const MIB: usize = 1 << 20;

/// What the test moves, and how many objects per second the process that serves and the one that
/// is killed may move. The first rate is low: a move must not end while the second one restarts.
struct Amounts {
    small: usize,
    in_parts: usize,
    large: usize,
    serving_rate: &'static str,
    moving_rate: &'static str,
}

fn amounts() -> Amounts {
    if std::env::var("TEST_LONG").is_ok() {
        let (serving_rate, moving_rate) = ("50", "0");
        Amounts { small: 9_700, in_parts: 250, large: 50, serving_rate, moving_rate }
    } else {
        let (serving_rate, moving_rate) = ("1", "20");
        Amounts { small: 195, in_parts: 5, large: 0, serving_rate, moving_rate }
    }
}

impl Amounts {
    fn sizes(&self) -> impl Iterator<Item = usize> + use<> {
        let small = (0..self.small).map(|n| 2000 + n % 40_000);
        let in_parts = (0..self.in_parts).map(|n| PART + (n % 4) * 3 * MIB + n);
        small.chain(in_parts).chain((0..self.large).map(|n| 100 * MIB + n * MIB / 2 + 1))
    }
}

/// The stores, and the configuration of the processes.
struct Fleet {
    /// The first one is the embedded server.
    stores: Vec<(String, Subject)>,
    /// The servers of the other stores. An embedded server stops when it is dropped.
    _servers: Vec<Subject>,
    database: TestDatabase,
    amounts: Amounts,
}

impl Fleet {
    /// `None` if a server does not allow a separate bucket.
    async fn start() -> Option<Self> {
        let mut stores = vec![("default".to_owned(), Subject::embedded_server().await)];
        let servers = Subject::servers().await;
        for (n, server) in servers.iter().enumerate() {
            stores.push((format!("other{n}"), server.with_own_bucket().await.ok()?));
        }
        let database = TestDatabase::create().await;
        Some(Self { stores, _servers: servers, database, amounts: amounts() })
    }

    /// A process whose policy stores new files in this store.
    async fn process(&self, store: &str, rate: &str, shards: &str) -> Live {
        let mut changes: Vec<(String, String)> = [
            ("database.url", self.database.url.as_str()),
            ("policies.tracks.prefix", "moves/"),
            ("policies.tracks.store", store),
            ("policies.tracks.max_size", "256MiB"),
            ("policies.tracks.multipart_threshold", "5MiB"),
            ("policies.tracks.part_size", "5MiB"),
            ("reconcile.max_requests_per_second", rate),
            ("reconcile.concurrency", shards),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        for (name, other) in &self.stores[1..] {
            changes.push((format!("storage.{name}.kind"), "s3".to_owned()));
            for (key, value) in other.configuration() {
                changes.push((format!("storage.{name}.{key}"), value));
            }
        }
        let changes: Vec<_> = changes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        Live::serving(&self.stores[0].1.configuration(), &changes).await
    }

    async fn serving(&self, store: &str) -> Live {
        self.process(store, self.amounts.serving_rate, "1").await
    }

    async fn mover(&self, store: &str) -> Live {
        self.process(store, self.amounts.moving_rate, "4").await
    }
}

/// The move from a store to the next one.
struct Leg<'a> {
    api: &'a Api,
    database: &'a DatabaseConnection,
    from: &'a (String, Subject),
    to: &'a str,
    /// The number of objects.
    objects: usize,
    /// The objects to spoil. Their keys are the last ones, so they are moved last.
    spoiled: &'a [StoredFile],
    kills: usize,
}

impl Leg<'_> {
    /// Moves everything, while the second process that moves is killed again and again.
    async fn run(&self, mover: &mut Live) {
        let Self { api, from: (from, _), kills, .. } = *self;
        let (before, later) = self.spoiled.split_at(SPOILED / 2);
        self.spoil(before).await;
        let body = json!({"policy": "tracks", "from": from, "concurrency": 4});
        let (status, run) = api.send(Method::POST, "/api/admin/moves", Some(body)).await;
        assert_eq!(status, 202, "{run}");
        let path = format!("/api/admin/moves/{}", text(&run, "id"));
        let (id, began) = (text(&run, "id").parse().unwrap(), Instant::now());
        let mut seen = BTreeSet::new();
        for kill in 1..=kills {
            let least = (self.objects * kill / (kills + 2)) as u64;
            let holders = wait_for_at_most(LEG, "progress of the move", async || {
                let run = api.get(&path).await;
                assert_eq!(run["status"], "running", "it ended before kill {kill}: {run}");
                if run["counters"]["moved"].as_u64().unwrap() < least {
                    return None;
                }
                // The process that serves, and the one to kill: it moves objects now.
                let holders = self.holders(id).await;
                let new = holders.difference(&seen).count();
                (new > usize::from(seen.is_empty())).then_some(holders)
            })
            .await;
            mover.kill().await;
            seen.extend(holders);
            if kill == kills / 2 {
                self.spoil(later).await;
            }
            mover.restart().await;
        }
        let run = wait_for_at_most(LEG, "the end of the move", async || {
            let run = api.get(&path).await;
            (run["status"] != "running").then_some(run)
        })
        .await;
        let (counters, seconds) = (&run["counters"], began.elapsed().as_secs());
        println!("{from} to {}: {kills} kills, {seconds} s, {counters}", self.to);
        assert_eq!(run["status"], "succeeded", "{run}");
        assert_eq!(counters["differences"], 0, "{run}");
        assert_eq!(counters["compared"], counters["moved"], "{run}");
        assert!(counters["moved"].as_u64().unwrap() >= self.objects as u64, "{run}");
        self.check_findings(&path).await;
    }

    /// The processes that hold a shard of the run.
    async fn holders(&self, run: Uuid) -> BTreeSet<Uuid> {
        use entity::reconcile_shard::{Column, Entity};
        let held = Entity::find()
            .filter(Column::RunId.eq(run))
            .filter(Column::Status.eq("open"))
            .filter(Column::ExpiresAt.gt(now()));
        let held = held.all(self.database).await.unwrap();
        held.into_iter().filter_map(|shard| shard.holder).collect()
    }

    /// Overwrites and deletes objects behind the service's back.
    async fn spoil(&self, objects: &[StoredFile]) {
        let (overwritten, deleted) = objects.split_at(objects.len() / 2);
        let store = self.from.1.objects();
        for known in overwritten {
            store.put(&known.key, mp3(2500, 99).into(), &PutOptions::default()).await.unwrap();
        }
        for known in deleted {
            store.delete(&known.key).await.unwrap();
        }
    }

    /// Each spoiled object is a finding and stays where it is, and nothing else is one.
    async fn check_findings(&self, path: &str) {
        let (from, store) = self.from;
        let found = self.api.get(&format!("{path}/findings?limit=1000")).await;
        let mut details = BTreeMap::new();
        for found in found["items"].as_array().unwrap() {
            assert_eq!(found["kind"], "not_moved", "{found}");
            details.insert(text(found, "upload_id"), text(found, "detail"));
        }
        for (n, known) in self.spoiled.iter().enumerate() {
            let is_deleted = n % 2 == 1;
            let detail = details.remove(&known.id);
            let expected = if is_deleted { "absent" } else { "changed" };
            assert_eq!(detail.as_deref(), Some(expected), "{known:?}");
            assert_eq!(self.api.store_of(known).await, *from, "{known:?}");
            let bytes = store.bytes(&known.key).await;
            assert_eq!(bytes, (!is_deleted).then(|| mp3(2500, 99).into()), "{known:?}");
        }
        // An upload that a client deletes at that moment may also be found absent.
        assert!(details.values().all(|detail| detail == "absent"), "{details:?}");
    }
}

#[tokio::test]
async fn files_move_from_server_to_server_while_clients_work_and_processes_are_killed() {
    let Some(fleet) = Fleet::start().await else { return };
    let legs = fleet.stores.len();
    let mut serving = fleet.serving("default").await;
    let api = Api::new(&serving.url);
    let mut known = api.upload_all(fleet.amounts.sizes()).await;
    let spoiled = known.split_off(known.len() - legs * SPOILED);
    let known = Arc::new(known);
    let database = sea_orm::Database::connect(&fleet.database.url).await.unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|n| tokio::spawn(work(api.clone(), known.clone(), stop.clone(), n * 100)))
        .collect();
    for (n, from) in fleet.stores.iter().enumerate() {
        let (to, _) = &fleet.stores[(n + 1) % legs];
        // A rolling restart with the new configuration.
        let next = fleet.serving(to).await;
        api.switch_to(&next.url);
        assert_eq!(serving.terminate().await, Some(0));
        serving = next;
        let mut mover = fleet.mover(to).await;
        let leg = Leg {
            api: &api,
            database: &database,
            from,
            to,
            objects: known.len(),
            spoiled: &spoiled[n * SPOILED..][..SPOILED],
            kills: KILLS.div_ceil(legs),
        };
        leg.run(&mut mover).await;
        assert_eq!(mover.terminate().await, Some(0));
    }
    stop.store(true, Ordering::Relaxed);
    let mut all = known.to_vec();
    for client in clients {
        let done = client.await.expect("no request failed");
        let [up, down, deleted] = [done.uploads, done.downloads, done.deletions];
        println!("a client: {up} uploads, {down} downloads, {deleted} deletions");
        all.extend(done.files);
    }
    api.check_all(&all).await;
    let mut left = BTreeMap::new();
    for (n, one) in all.iter().enumerate() {
        let name = api.store_of(one).await;
        if name == "default" {
            continue;
        }
        assert!(n >= known.len(), "{one:?} stayed in {name}");
        let (_, store) = fleet.stores.iter().find(|store| store.0 == name).unwrap();
        // A URL of a part may still overwrite it, so it is open and stays.
        if one.len < PART || !store.capabilities().part_urls_write_objects {
            *left.entry(name).or_insert(0) += 1;
        }
    }
    // Only what each client had begun when the configuration changed may be open and stay.
    assert!(left.values().all(|files| *files <= 2), "{left:?} of {} files stayed", all.len());

    assert_eq!(serving.terminate().await, Some(0));
    let serving = fleet.process("default", "0", "8").await;
    api.switch_to(&serving.url);
    let audit = serving.reconcile("audit").await;
    let counters = &audit["counters"];
    assert_eq!(audit["status"], "succeeded", "{audit}");
    assert_eq!((&counters["strays"], &counters["orphans"]), (&json!(0), &json!(0)), "{audit}");
    let each = spoiled.len() / 2;
    assert_eq!(counters["errors"], 0, "{audit}");
    assert_eq!((&counters["missing"], &counters["overwritten"]), (&json!(each), &json!(each)));
    api.check_all(&all).await;
}
