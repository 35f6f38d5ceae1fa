//! A store or a database that is unavailable for a while, behind a proxy that drops connections;
//! and a store that receives other bytes than were sent.

use reqwest::{Response, Url};
use serde_json::json;

use crate::storage::servers::Subject;
use crate::support::database::TestDatabase;
use crate::support::failing_proxy::FailingProxy;
use crate::support::live::{Live, read, text};
use crate::support::mp3;
use crate::support::proxy::Proxy;
use crate::support::wait::wait_for;

/// The URL of a database, with a proxy in between.
pub async fn behind(database: &str) -> (Url, Proxy) {
    let mut url: Url = database.parse().unwrap();
    let proxy = Proxy::before(authority(&url)).await;
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(proxy.addr.port())).unwrap();
    (url, proxy)
}

/// The host and port of a URL.
pub fn authority(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap())
}

#[track_caller]
fn not_now(response: &Response) {
    assert_eq!(response.status(), 503, "{response:?}");
    assert!(response.headers().contains_key("retry-after"), "{response:?}");
}

/// The first readiness response with this status. Results are cached for a second.
async fn readiness(live: &Live, status: u16) -> Response {
    wait_for("the readiness", async || {
        let response = live.http.get(format!("{}/readyz", live.url)).send().await;
        Some(response.unwrap()).filter(|response| response.status() == status)
    })
    .await
}

#[tokio::test]
async fn a_store_that_is_down_is_503_and_is_used_again_without_a_restart() {
    let on = Subject::server().await;
    let mut store = on.configuration();
    let proxy = Proxy::before(authority(&store[0].1.parse().unwrap())).await;
    store[0].1 = format!("http://{}", proxy.addr);
    let public = store[1].1.trim_end_matches('/').to_owned();
    let live = Live::serving(&store, &[("storage.default.operation_timeout", "3s")]).await;
    let (track, other) = (live.track().await, live.track().await);
    let request = live.presign(&track, json!({})).await;
    assert!(text(&request, "url").starts_with(&public), "clients are sent to the public endpoint");
    assert!(live.send_bytes(&request, mp3(9000, 1)).await.status().is_success());

    proxy.cut();
    let confirm = format!("{}/api/uploads/{}/confirm", live.url, text(&request["upload"], "id"));
    not_now(&live.http.post(&confirm).send().await.unwrap());
    let fallback = format!("{}/api/tracks/{other}/upload/song.mp3", live.url);
    not_now(&live.http.put(&fallback).body(mp3(9000, 2)).send().await.unwrap());
    not_now(&readiness(&live, 503).await);
    // Requests that do not need the store still work.
    assert_eq!(live.get(&format!("/api/tracks/{track}")).await.0, 200);
    live.presign(&other, json!({})).await;

    proxy.restore();
    let (status, upload) = read(live.http.post(&confirm).send().await.unwrap()).await;
    assert_eq!((status, &upload["status"]), (200, &json!("uploaded")), "{upload}");
    let (_, ready) = read(readiness(&live, 200).await).await;
    assert_eq!(ready["ready"], true, "{ready}");
    assert_eq!(
        ready["capabilities"]["default"]["write_once"],
        json!(on.capabilities().write_once),
        "{ready}"
    );
}

/// Only on PostgreSQL: SQLite is a file, so there is no connection to drop.
#[tokio::test]
async fn a_database_that_is_down_is_503_and_is_used_again_without_a_restart() {
    if std::env::var("TEST_POSTGRES_URL").is_err() {
        return;
    }
    let database = TestDatabase::create().await;
    let (url, proxy) = behind(&database.url).await;
    let on = Subject::server().await;
    let live = Live::serving(
        &on.configuration(),
        &[("database.url", url.as_str()), ("database.busy_timeout", "2s")],
    )
    .await;
    let track = live.track().await;
    let path = format!("{}/api/tracks/{track}", live.url);

    proxy.cut();
    not_now(&live.http.get(&path).send().await.unwrap());
    not_now(&readiness(&live, 503).await);
    assert_eq!(live.get("/healthz").await.0, 200, "the process itself works");

    proxy.restore();
    wait_for("the database to be used again", async || {
        let response = live.http.get(&path).send().await.unwrap();
        (response.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn parts_that_are_altered_on_the_way_never_become_a_tracks_file() {
    let on = Subject::server().await;
    let mut store = on.configuration();
    let proxy = FailingProxy::before(authority(&store[0].1.parse().unwrap())).await;
    store[0].1 = format!("http://{}", proxy.addr);
    let live = Live::serving(&store, &[("direct_upload.part_size", "5MiB")]).await;
    let (track, file) = (live.track().await, mp3(6 << 20, 3));
    let upload = || async {
        let url = format!("{}/api/tracks/{track}/upload/song.mp3", live.url);
        read(live.http.put(url).body(file.clone()).send().await.unwrap()).await
    };
    let (status, sent) = upload().await;
    assert_eq!((status, &sent["status"]), (200, &json!("uploaded")), "{sent}");

    proxy.alter_parts();
    let (status, problem) = upload().await;
    assert_eq!((status, &problem["type"]), (502, &json!("/problems/store-error")), "{problem}");
    let (_, seen) = live.get(&format!("/api/tracks/{track}")).await;
    assert_eq!(seen["upload"]["status"], "cancelled", "{seen}");
    assert_eq!(live.file(&track).await, file, "that of before");
}
