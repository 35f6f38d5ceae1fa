//! How the service ends: after draining, in order, or by its deadline if something hangs.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::outage::{authority, behind};
use crate::storage::servers::Subject;
use crate::support::database::TestDatabase;
use crate::support::live::Live;
use crate::support::proxy::Proxy;
use crate::support::wait::wait_for;

/// The value of `server.shutdown_timeout` in these tests.
const TIMEOUT: &str = "2s";

/// The time limit for the end of the process: [`TIMEOUT`], 5 s for closing, and time for a slow
/// machine.
const DEADLINE: Duration = Duration::from_secs(15);

/// Sends requests that wait for a database or a store that does not respond.
fn load(live: &Live, path: &str) -> JoinSet<()> {
    let mut requests = JoinSet::new();
    for _ in 0..8 {
        let body = json!({"title": "A song", "artist_name": "Someone", "mode": "incremental"});
        let url = format!("{}{path}", live.url);
        let request = live.http.post(url).json(&body);
        requests.spawn(async move { drop(request.send().await) });
    }
    requests
}

async fn unready(live: &Live) {
    wait_for("readiness to fail", async || (live.get("/readyz").await.0 == 503).then_some(()))
        .await;
}

/// Whether the service has closed its listener.
async fn is_closed(live: &Live) -> bool {
    live.http.get(format!("{}/healthz", live.url)).send().await.is_err()
}

/// Only on PostgreSQL: SQLite is a file, so there is no connection to freeze.
#[tokio::test]
async fn a_database_that_does_not_respond_does_not_delay_the_end_beyond_the_deadline() {
    if std::env::var("TEST_POSTGRES_URL").is_err() {
        return;
    }
    let database = TestDatabase::create().await;
    let (url, proxy) = behind(&database.url).await;
    let changes = [
        ("database.url", url.as_str()),
        ("server.shutdown_timeout", TIMEOUT),
        ("telemetry.log", "warn"),
    ];
    let on = Subject::server().await;
    let mut live = Live::serving(&on.configuration(), &changes).await;
    live.track().await;
    proxy.freeze();
    let _load = load(&live, "/api/tracks");
    unready(&live).await;

    let began = Instant::now();
    live.signal().await;
    assert_eq!(live.ended(DEADLINE).await, Some(1));
    let log = live.log_text();
    let error = log.lines().find(|line| line.starts_with("error: the shutdown took longer"));
    assert!(error.is_some_and(|error| error.contains("still running: ")), "{log}");
    assert!(began.elapsed() >= Duration::from_secs(2), "{log}");
}

#[tokio::test]
async fn a_store_that_does_not_respond_does_not_delay_the_end_beyond_the_deadline() {
    let on = Subject::server().await;
    let mut store = on.configuration();
    let proxy = Proxy::before(authority(&store[0].1.parse().unwrap())).await;
    store[0].1 = format!("http://{}", proxy.addr);
    // Longer than the deadline, so that nothing else can end the calls.
    store.push(("operation_timeout", "2min".to_owned()));
    let changes = [("server.shutdown_timeout", TIMEOUT), ("telemetry.log", "warn")];
    let mut live = Live::serving(&store, &changes).await;
    proxy.freeze();
    let _load = load(&live, "/api/admin/reconciliations?wait=true");
    unready(&live).await;
    live.signal().await;
    live.ended(DEADLINE).await;
}

#[tokio::test]
async fn a_second_signal_ends_the_service_at_once() {
    let changes = [
        ("server.drain_delay", "1h"),
        ("server.shutdown_timeout", "1h"),
        ("telemetry.log", "warn"),
    ];
    let mut live = Live::with(&changes).await;
    live.signal().await;
    draining(&live).await;
    live.signal().await;
    assert_eq!(live.ended(DEADLINE).await, Some(1));
    let log = live.log_text();
    assert!(log.contains("error: a second signal ended the shutdown"), "{log}");
}

async fn draining(live: &Live) {
    wait_for("readyz to say that the service stops", async || {
        let (status, ready) = live.get("/readyz").await;
        (status == 503 && ready["checks"] == json!({"shutdown": "in progress"})).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_draining_service_is_not_ready_but_serves_until_its_listener_closes() {
    let mut live = Live::with(&[("server.drain_delay", "4s")]).await;
    let began = Instant::now();
    live.signal().await;
    draining(&live).await;
    live.track().await;
    assert_eq!(live.get("/healthz").await.0, 200);
    wait_for("the end of the listener", async || is_closed(&live).await.then_some(())).await;
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(live.ended(DEADLINE).await, Some(0));
}
