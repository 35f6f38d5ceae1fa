//! Moves between real servers while clients upload and download, and while the processes that move
//! are killed: embedded server → the server of the environment (another embedded one by default) →
//! embedded server.
//!
//! `TEST_LONG=1` moves 10,000 objects, 300 of them made of parts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use upload_coordinator::storage::PutOptions;

use crate::storage::servers::Subject;
use crate::support::database::TestDatabase;
use crate::support::live::{Live, read, text};
use crate::support::mp3;
use crate::support::wait::wait_for_at_most;

/// The time limit of one leg.
const LEG: Duration = Duration::from_mins(20);

/// The size of a part of the client's multipart uploads, in bytes.
const PART: usize = 5 << 20;

/// How often the process that moves is killed in one leg.
const KILLS: usize = 5;

/// What the test moves.
struct Amounts {
    small: usize,
    in_parts: usize,
    requests_per_second: &'static str,
}

fn amounts() -> Amounts {
    if std::env::var("TEST_LONG").is_ok() {
        Amounts { small: 9_700, in_parts: 300, requests_per_second: "150" }
    } else {
        Amounts { small: 195, in_parts: 5, requests_per_second: "20" }
    }
}

/// A verified upload and the seed and length of its bytes.
#[derive(Debug, Clone)]
struct StoredFile {
    id: String,
    key: String,
    len: usize,
    seed: u8,
}

impl StoredFile {
    fn bytes(&self) -> Vec<u8> {
        mp3(self.len, self.seed)
    }
}

/// A client of whichever process serves now.
#[derive(Clone)]
struct Api {
    http: Client,
    url: Arc<Mutex<String>>,
}

impl Api {
    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}{path}", self.url.lock().unwrap());
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        read(request.send().await.unwrap()).await
    }

    async fn put(&self, request: &Value, bytes: Vec<u8>) {
        let mut put = self.http.put(text(request, "url"));
        for (name, value) in request["headers"].as_object().unwrap() {
            put = put.header(name, value.as_str().unwrap());
        }
        let response = put.body(bytes).send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    }

    /// Uploads and confirms a file. Every response must be a success.
    async fn upload(&self, len: usize, seed: u8) -> StoredFile {
        let declared = json!({"filename": "a.mp3", "content_type": "audio/mpeg", "size": len});
        let (status, upload) = self.send(Method::POST, "/api/uploads", Some(declared)).await;
        assert_eq!(status, 201, "{upload}");
        let (id, key, bytes) = (text(&upload, "id"), text(&upload, "key"), mp3(len, seed));
        let end = if upload["multipart"].is_null() {
            self.put(&upload["request"], bytes).await;
            "confirm"
        } else {
            let numbers: Vec<_> = (1..=len.div_ceil(PART)).collect();
            let path = format!("/api/uploads/{id}/parts");
            let request = json!({"part_numbers": numbers});
            let (status, signed) = self.send(Method::POST, &path, Some(request)).await;
            assert_eq!(status, 200, "{signed}");
            for (part, bytes) in signed["parts"].as_array().unwrap().iter().zip(bytes.chunks(PART))
            {
                self.put(part, bytes.to_vec()).await;
            }
            "complete"
        };
        let (status, done) =
            self.send(Method::POST, &format!("/api/uploads/{id}/{end}"), None).await;
        assert_eq!((status, &done["status"]), (200, &json!("uploaded")), "{done}");
        StoredFile { id, key, len, seed }
    }

    /// Downloads a file by its signed URL, and compares all bytes.
    async fn check(&self, known: &StoredFile) {
        let url = format!("{}/api/uploads/{}/file", self.url.lock().unwrap(), known.id);
        let response = self.http.get(url).send().await.unwrap();
        assert_eq!(response.status(), 200, "{known:?}");
        let bytes: Bytes = response.bytes().await.unwrap();
        assert!(bytes == known.bytes(), "{known:?}: {} bytes", bytes.len());
    }

    async fn check_all(&self, all: &[StoredFile]) {
        stream::iter(all).for_each_concurrent(8, |known| self.check(known)).await;
    }
}

/// The configuration of the processes.
struct Fleet {
    first: Subject,
    second: Subject,
    database: TestDatabase,
    requests_per_second: &'static str,
}

impl Fleet {
    /// A process whose policy stores new files in this store.
    async fn process(&self, store: &str) -> Live {
        let other = self.second.configuration().into_iter();
        let other: Vec<(String, String)> =
            other.map(|(key, value)| (format!("storage.other.{key}"), value)).collect();
        let mut changes = vec![
            ("database.url", self.database.url.as_str()),
            ("policies.tracks.prefix", "moves/"),
            ("policies.tracks.store", store),
            ("policies.tracks.max_size", "256MiB"),
            ("policies.tracks.multipart_threshold", "5MiB"),
            ("policies.tracks.part_size", "5MiB"),
            // Slow enough to be killed in progress.
            ("reconcile.max_requests_per_second", self.requests_per_second),
            ("storage.other.kind", "s3"),
        ];
        changes.extend(other.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        Live::serving(&self.first.configuration(), &changes).await
    }
}

/// Uploads, downloads and deletes until `stop` is set. Returns what it uploaded.
async fn client(
    api: Api,
    known: Arc<Vec<StoredFile>>,
    stop: Arc<AtomicBool>,
    n: u8,
) -> Vec<StoredFile> {
    let (mut mine, mut turn) = (Vec::new(), usize::from(n));
    while !stop.load(Ordering::Relaxed) {
        turn += 7;
        let len = if turn % 40 == 0 { PART + turn } else { 3000 + turn };
        let fresh = api.upload(len, n.wrapping_add(u8::try_from(turn % 200).unwrap())).await;
        api.check(&fresh).await;
        api.check(&known[turn % known.len()]).await;
        if turn % 5 == 0 {
            let path = format!("/api/uploads/{}", fresh.id);
            assert_eq!(api.send(Method::DELETE, &path, None).await.0, 204);
        } else {
            mine.push(fresh);
        }
    }
    mine
}

/// Moves everything from a store, while the second process that moves is killed again and again.
/// Returns the move as it ended.
async fn leg(api: &Api, mover: &mut Live, from: &str) -> Value {
    let body = json!({"policy": "tracks", "from": from, "concurrency": 4});
    let (status, run) = api.send(Method::POST, "/api/admin/moves", Some(body)).await;
    assert_eq!(status, 202, "{run}");
    let path = format!("/api/admin/moves/{}", text(&run, "id"));
    let mut kills = 0;
    for kill in 1..=KILLS {
        let least = (kill * 8) as u64;
        let running = wait_for_at_most(LEG, "progress of the move", async || {
            let (_, run) = api.send(Method::GET, &path, None).await;
            let done = run["counters"]["moved"].as_u64().unwrap();
            (run["status"] != "running" || done >= least).then(|| run["status"] == "running")
        })
        .await;
        mover.kill().await;
        kills += usize::from(running);
        mover.restart().await;
    }
    println!("{kills} of {KILLS} kills while moving from {from}");
    wait_for_at_most(LEG, "the end of the move", async || {
        let (_, run) = api.send(Method::GET, &path, None).await;
        (run["status"] != "running").then_some(run)
    })
    .await
}

#[tokio::test]
async fn files_move_to_another_server_and_back_while_clients_work_and_processes_are_killed() {
    let amounts = amounts();
    let server = Subject::server().await;
    let Ok(second) = server.with_own_bucket().await else { return };
    let fleet = Fleet {
        first: Subject::embedded_server().await,
        second,
        database: TestDatabase::create().await,
        requests_per_second: amounts.requests_per_second,
    };
    let mut serving = fleet.process("default").await;
    let http = Client::builder().no_proxy().build().unwrap();
    let api = Api { http, url: Arc::new(Mutex::new(serving.url.clone())) };
    let count = AtomicUsize::new(0);
    let sizes = (0..amounts.small).map(|n| 2000 + n % 40_000);
    let sizes = sizes.chain((0..amounts.in_parts).map(|n| PART + (n % 4) * (3 << 20) + n));
    let known: Vec<StoredFile> = stream::iter(sizes)
        .map(|len| {
            let seed = u8::try_from(count.fetch_add(1, Ordering::Relaxed) % 251).unwrap();
            api.upload(len, seed)
        })
        .buffered(8)
        .collect()
        .await;

    // Two objects are changed behind the service's back.
    let (spoiled, known) = known.split_at(2);
    let objects = fleet.first.objects();
    objects.put(&spoiled[0].key, mp3(2500, 99).into(), &PutOptions::default()).await.unwrap();
    objects.delete(&spoiled[1].key).await.unwrap();
    let known = Arc::new(known.to_vec());

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|n| tokio::spawn(client(api.clone(), known.clone(), stop.clone(), n * 100)))
        .collect();
    let mut totals = BTreeMap::new();
    for (store, from) in [("other", "default"), ("default", "other")] {
        // A rolling restart with the new configuration.
        let next = fleet.process(store).await;
        next.url.clone_into(&mut api.url.lock().unwrap());
        assert_eq!(serving.terminate().await, Some(0));
        serving = next;
        let mut mover = fleet.process(store).await;
        let run = leg(&api, &mut mover, from).await;
        assert_eq!(run["status"], "succeeded", "{run}");
        let counters = &run["counters"];
        println!("{from}: {counters}");
        assert_eq!(counters["differences"], 0, "{run}");
        assert_eq!(counters["compared"], counters["moved"], "{run}");
        assert!(counters["moved"].as_u64().unwrap() >= known.len() as u64, "{run}");
        let path = format!("/api/admin/moves/{}/findings", text(&run, "id"));
        let (_, found) = api.send(Method::GET, &path, None).await;
        let details = found["items"].as_array().unwrap().iter().map(|found| {
            assert_eq!(found["kind"], "not_moved", "{found}");
            text(found, "detail")
        });
        let details: Vec<_> = details.collect();
        // An upload that a client deletes at that moment may also be found absent.
        let spoiled = details.iter().filter(|detail| *detail == "changed").count();
        assert_eq!(spoiled, usize::from(from == "default"), "{details:?}");
        assert!(
            details.iter().all(|detail| detail == "changed" || detail == "absent"),
            "{details:?}"
        );
        assert!(mover.terminate().await.is_some());
        totals.insert(from, counters["moved"].as_u64().unwrap());
    }
    stop.store(true, Ordering::Relaxed);
    let mut all = known.to_vec();
    for client in clients {
        all.extend(client.await.expect("no request failed"));
    }
    println!("{totals:?} moved, {} files", all.len());
    api.check_all(&all).await;
    let mut stores = BTreeMap::new();
    for one in &all {
        let (_, upload) = api.send(Method::GET, &format!("/api/uploads/{}", one.id), None).await;
        *stores.entry(text(&upload, "store")).or_insert(0) += 1;
    }
    // Only what each client had begun when the configuration changed may be open and stay.
    assert!(stores.remove("other").unwrap_or(0) <= 2 && stores.len() == 1, "{stores:?}");

    let audit = serving.reconcile("audit").await;
    let counters = &audit["counters"];
    assert_eq!(audit["status"], "succeeded", "{audit}");
    assert_eq!((&counters["strays"], &counters["orphans"]), (&json!(0), &json!(0)), "{audit}");
    assert_eq!((&counters["missing"], &counters["errors"]), (&json!(1), &json!(0)), "{audit}");
    assert_eq!(counters["overwritten"], 1, "{audit}");
    api.check_all(&all).await;
}
