//! Uploads in pieces while processes are killed: no acknowledged byte is lost.
//!
//! `TEST_LONG=1` sends 50 uploads over three processes. One of them is killed every 5 s.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::{Client, Method, RequestBuilder};
use tokio::sync::mpsc;

use crate::support::database::TestDatabase;
use crate::support::live::Live;
use crate::support::mp3;
use crate::support::wait::wait_for;

const MIB: usize = 1 << 20;
const SETTINGS: [(&str, &str); 2] =
    [("dialects.tus.enabled", "true"), ("policies.tracks.grace", "1min")];

fn tus(http: &Client, method: &str, url: String) -> RequestBuilder {
    let method: Method = method.parse().unwrap();
    http.request(method, url).header("Tus-Resumable", "1.0.0")
}

async fn create(http: &Client, url: &str, length: usize) -> Option<String> {
    let request = tus(http, "POST", format!("{url}/tus/")).header("Upload-Length", length);
    // The metadata is the file name a.mp3.
    let response = request.header("Upload-Metadata", "filename YS5tcDM=").send().await.ok()?;
    assert_eq!(response.status(), 201);
    Some(response.headers()["location"].to_str().unwrap().to_owned())
}

fn patch(http: &Client, url: String, offset: usize, body: reqwest::Body) -> RequestBuilder {
    tus(http, "PATCH", url)
        .header("Upload-Offset", offset)
        .header("Content-Type", "application/offset+octet-stream")
        .body(body)
}

/// The number of stored bytes. `None` if the process is down or returns 423.
async fn offset(http: &Client, url: String) -> Option<usize> {
    let response = tus(http, "HEAD", url).send().await.ok()?;
    if response.status() == 423 {
        return None;
    }
    assert_eq!(response.status(), 200);
    response.headers()["upload-offset"].to_str().unwrap().parse().ok()
}

async fn stored_file(http: &Client, url: &str, path: &str) -> Option<Bytes> {
    let id = path.rsplit('/').next().unwrap();
    let url = format!("{url}/api/uploads/{id}/file");
    let response = http.get(url).send().await.ok()?;
    assert!(response.status().is_success(), "{response:?}");
    response.bytes().await.ok()
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_request_loses_no_acknowledged_byte() {
    let mut live = Live::with(&SETTINGS).await;
    let (http, file) = (live.http.clone(), mp3(14 * MIB, 1));
    let path = create(&http, &live.url, file.len()).await.unwrap();
    let url = format!("{}{path}", live.url);
    let mut acknowledged = 0;
    for size in [1000, MIB, 3 * MIB] {
        let piece = file[acknowledged..acknowledged + size].to_vec();
        let sent = patch(&http, url.clone(), acknowledged, piece.into()).send().await.unwrap();
        assert_eq!(sent.status(), 204);
        acknowledged += size;
    }
    let (sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let body = reqwest::Body::wrap_stream(body);
    let hanging = tokio::spawn(patch(&http, url.clone(), acknowledged, body).send());
    for piece in file[acknowledged..acknowledged + 8 * MIB].chunks(64 << 10) {
        sender.send(Ok(Bytes::copy_from_slice(piece))).await.unwrap();
    }
    live.kill().await;
    assert!(hanging.await.unwrap().is_err());
    live.restart().await;
    let now = wait_for("the offset", async || offset(&http, url.clone()).await).await;
    assert!(now >= acknowledged && now <= acknowledged + 8 * MIB, "{now}");
    let sent = patch(&http, url, now, file[now..].to_vec().into()).send().await.unwrap();
    assert_eq!(sent.status(), 204, "{sent:?}");
    let stored = stored_file(&http, &live.url, &path).await.unwrap();
    assert!(stored == file, "the file has other bytes");
}

/// Uploads a file as a client does, with any process and any chunk size. After each failure it
/// requests the offset.
async fn upload(http: &Client, addresses: &[String], seed: u8) {
    let mut random = StdRng::seed_from_u64(seed.into());
    let file = mp3(9 * MIB + usize::from(seed) * 1000, seed);
    let any = |random: &mut StdRng| &addresses[random.random_range(0..addresses.len())];
    let mut path = None;
    while path.is_none() {
        path = create(http, any(&mut random), file.len()).await;
        tokio::task::yield_now().await;
    }
    let path = path.unwrap();
    let (mut at, mut acknowledged) = (0, 0);
    while at < file.len() {
        let size = [1, 70_000, 300_000, 900_000, 6 * MIB][random.random_range(0..5)];
        let piece = file[at..file.len().min(at + size)].to_vec();
        let end = at + piece.len();
        let request = patch(http, format!("{}{path}", any(&mut random)), at, piece.into());
        if request.send().await.is_ok_and(|sent| sent.status() == 204) {
            (at, acknowledged) = (end, end);
            continue;
        }
        at = wait_for("the offset", async || {
            offset(http, format!("{}{path}", any(&mut random))).await
        })
        .await;
        assert!(at >= acknowledged, "{at} of {acknowledged} acknowledged bytes");
    }
    let stored =
        wait_for("the file", async || stored_file(http, any(&mut random), &path).await).await;
    assert!(stored == file, "the file has other bytes");
}

#[tokio::test]
async fn uploads_over_three_processes_survive_kills_of_each() {
    let (uploads, pause) = match std::env::var("TEST_LONG") {
        Ok(_) => (50, Duration::from_secs(5)),
        Err(_) => (4, Duration::from_millis(300)),
    };
    // The three processes use the embedded store of this one.
    let store = Live::dev().await;
    let database = TestDatabase::create().await;
    let shared = [("database.url", database.url.as_str()), ("policies.tracks.prefix", "shared/")];
    let changes = [&SETTINGS[..], &shared].concat();
    let embedded = store.embedded_store();
    let mut processes = Vec::new();
    for _ in 0..3 {
        processes.push(Live::serving(&embedded, &changes).await);
    }
    let addresses: Vec<_> = processes.iter().map(|live| live.url.clone()).collect();
    let http = store.http.clone();
    let sending = join_all((0..uploads).map(|seed| upload(&http, &addresses, seed)));
    let mut killed = 0;
    let killing = async {
        let mut kills = tokio::time::interval(pause);
        kills.tick().await;
        loop {
            kills.tick().await;
            let process: &mut Live = &mut processes[killed % 3];
            process.kill().await;
            killed += 1;
            process.restart().await;
        }
    };
    tokio::select! {
        _ = sending => {}
        _ = killing => {}
    }
    println!("{killed} kills");
    assert!(killed > 0);
}
