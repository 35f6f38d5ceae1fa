//! A start while the store or the database does not respond yet.

use std::time::{Duration, Instant};

use super::outage::{authority, behind};
use crate::storage::servers::Subject;
use crate::support::database::TestDatabase;
use crate::support::live::Live;
use crate::support::proxy::Proxy;
use crate::support::wait::wait_for;

/// The time limit of a start that must fail. It is shorter than the default of
/// `server.start_timeout`, 1 min.
const AT_ONCE: Duration = Duration::from_secs(30);

async fn waits_for(live: &Live, what: &str) {
    let expected = format!("waiting_for=\"{what}\"");
    wait_for(&expected, async || live.log_text().contains(&expected).then_some(())).await;
}

/// A store behind a proxy.
async fn store(on: &Subject) -> (Vec<(&'static str, String)>, Proxy) {
    let mut store = on.configuration();
    let proxy = Proxy::before(authority(&store[0].1.parse().unwrap())).await;
    store[0].1 = format!("http://{}", proxy.addr);
    (store, proxy)
}

#[tokio::test]
async fn a_start_waits_for_a_store_that_is_down() {
    let on = Subject::server().await;
    let (store, proxy) = store(&on).await;
    proxy.cut();
    let live = Live::starting(&store, &[("telemetry.log", "warn")]).await;
    waits_for(&live, "storage.default").await;
    proxy.restore();
    live.until_ready().await;
    live.track().await;
}

#[tokio::test]
async fn a_start_waits_for_a_database_that_is_down() {
    if std::env::var("TEST_POSTGRES_URL").is_err() {
        return;
    }
    let database = TestDatabase::create().await;
    let (url, proxy) = behind(&database.url).await;
    proxy.cut();
    let on = Subject::server().await;
    let changes = [("database.url", url.as_str()), ("telemetry.log", "warn")];
    let live = Live::starting(&on.configuration(), &changes).await;
    waits_for(&live, "the database").await;
    proxy.restore();
    live.until_ready().await;
    live.track().await;
}

#[tokio::test]
async fn a_start_gives_up_after_its_timeout_and_says_what_it_waited_for() {
    let on = Subject::server().await;
    let (store, proxy) = store(&on).await;
    proxy.cut();
    let changes = [("telemetry.log", "warn"), ("server.start_timeout", "1s")];
    let mut live = Live::starting(&store, &changes).await;
    assert_eq!(live.ended(AT_ONCE).await, Some(1));
    let log = live.log_text();
    let error = "error: storage.default: not available within server.start_timeout (1 s): ";
    assert!(log.contains(error), "{log}");
}

#[tokio::test]
async fn a_permanent_error_ends_the_start_at_once() {
    let on = Subject::server().await;
    let right = on.configuration();
    let wrong = |key: &str, value: &str| -> Vec<_> {
        let value =
            |(k, v): &(_, String)| (*k, if *k == key { value.to_owned() } else { v.clone() });
        right.iter().map(value).collect()
    };
    let mut cases = vec![
        (wrong("secret_access_key", "not the right password"), String::new()),
        (wrong("bucket", "there-is-no-such-bucket"), String::new()),
    ];
    if let Ok(server) = std::env::var("TEST_POSTGRES_URL") {
        let mut url: url::Url = server.parse().unwrap();
        url.set_path("there_is_no_such_database");
        cases.push((right.clone(), url.into()));
    }
    for (store, database) in cases {
        let mut changes = vec![("telemetry.log", "warn")];
        if !database.is_empty() {
            changes.push(("database.url", database.as_str()));
        }
        let began = Instant::now();
        let mut live = Live::starting(&store, &changes).await;
        let code = live.ended(AT_ONCE).await;
        let log = live.log_text();
        assert_eq!(code, Some(1), "after {:?}: {log}", began.elapsed());
        assert!(log.contains("error: ") && !log.contains("waiting_for"), "{log}");
    }
}
