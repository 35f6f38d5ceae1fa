//! The real binary with the real virus scanner.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::clamd::{Clamd, eicar};
use crate::support::live::{Live, read, run, text};
use crate::support::wait::wait_for_at_most;

const CLEAN: &[u8] = b"only some text";

/// A service that accepts files of any type and scans them with this daemon.
async fn scanned(address: &str) -> Live {
    Live::with(&[
        ("inspectors.clamav.kind", "clamd"),
        ("inspectors.clamav.address", address),
        ("policies.tracks.inspect", "clamav"),
        ("policies.tracks.allowed_extensions", ""),
        ("policies.tracks.allowed_content_types", ""),
        ("storage.default.probe", "true"),
    ])
    .await
}

async fn create(live: &Live, strategy: &str, size: usize) -> Value {
    let body = json!({"filename": "file", "strategy": strategy, "size": size});
    let (status, upload) = live.post("/api/uploads", body).await;
    assert_eq!(status, 201, "{upload}");
    upload
}

/// Sends a file with the upload's strategy, and confirms it.
async fn send(live: &Live, upload: &Value, file: &[u8]) {
    let path = format!("/api/uploads/{}", text(upload, "id"));
    let confirmed = match upload["strategy"].as_str().unwrap() {
        "multipart" => {
            let numbers = json!({"part_numbers": [1]});
            let (_, signed) = live.post(&format!("{path}/parts"), numbers).await;
            let sent = live.send_bytes(&signed["parts"][0], file.to_vec()).await;
            assert!(sent.status().is_success());
            live.post(&format!("{path}/complete"), json!({})).await
        }
        "direct" => {
            let put = live.http.put(format!("{}{path}/content", live.url)).body(file.to_vec());
            read(put.send().await.unwrap()).await
        }
        _ => {
            let sent = live.send_bytes(&upload["request"], file.to_vec()).await;
            assert!(sent.status().is_success());
            live.post(&format!("{path}/confirm"), json!({})).await
        }
    };
    assert_eq!(confirmed.0, 200, "{confirmed:?}");
}

/// Requests the file repeatedly until `over` is true. Returns whether it was ever served.
async fn poll(live: &Live, upload: &Value, over: &AtomicBool) -> bool {
    let path = format!("/api/uploads/{}/file?redirect=false", text(upload, "id"));
    let mut found = false;
    while !over.load(Ordering::SeqCst) {
        found |= live.get(&path).await.0 == 200;
    }
    found
}

async fn wait(live: &Live, upload: &Value) -> Value {
    let (_, upload) = live.get(&format!("/api/uploads/{}?wait=60", text(upload, "id"))).await;
    upload
}

#[tokio::test]
async fn a_virus_is_never_downloadable_and_a_clean_file_is_soon() {
    let Some(clamd) = Clamd::start().await else { return };
    for address in [clamd.address(), clamd.socket()] {
        let live = scanned(&address).await;
        for strategy in ["put", "multipart", "direct"] {
            let virus = create(&live, strategy, eicar().len()).await;
            let over = AtomicBool::new(false);
            let attack = async {
                send(&live, &virus, &eicar()).await;
                let rejected = wait(&live, &virus).await;
                over.store(true, Ordering::SeqCst);
                rejected
            };
            let (rejected, was_there) = tokio::join!(attack, poll(&live, &virus, &over));
            assert!(!was_there, "{strategy}");
            assert_eq!(rejected["status"], "rejected", "{rejected}");
            assert_eq!(rejected["reason"], "inspection");
            let detail = text(&rejected, "detail");
            assert!(detail.starts_with("clamav: Eicar-Test-Signature"), "{detail}");

            let clean = create(&live, strategy, CLEAN.len()).await;
            send(&live, &clean, CLEAN).await;
            let confirmed = Instant::now();
            let uploaded = wait(&live, &clean).await;
            let took = confirmed.elapsed();
            assert_eq!(uploaded["status"], "uploaded", "{uploaded}");
            println!("{strategy}: served {took:?} after its confirmation");
            assert!(took < Duration::from_secs(3), "{strategy}: {took:?}");
            let path = format!("{}/api/uploads/{}/file", live.url, text(&clean, "id"));
            let file = live.http.get(path).send().await.unwrap().bytes().await.unwrap();
            assert_eq!(&file[..], CLEAN);
        }
    }
}

#[tokio::test]
async fn killing_the_scanner_and_the_service_loses_no_upload_and_serves_none_unscanned() {
    let Some(mut clamd) = Clamd::start().await else { return };
    let mut live = scanned(&clamd.address()).await;
    let files = 200;
    let item = |n: usize| {
        let size = if n.is_multiple_of(10) { eicar().len() } else { CLEAN.len() };
        json!({"filename": n.to_string(), "size": size})
    };
    let mut uploads = Vec::new();
    for first in (0..files).step_by(100) {
        let body = json!({"uploads": (first..first + 100).map(item).collect::<Vec<_>>()});
        let (_, created) = live.post("/api/uploads/batch", body).await;
        let results = created["results"].as_array().unwrap().iter();
        uploads.extend(results.map(|result| result["upload"].clone()));
    }
    let service = &live;
    let sent = stream::iter(uploads.iter().enumerate()).map(|(n, upload)| async move {
        let file = if n.is_multiple_of(10) { eicar() } else { CLEAN.to_vec() };
        assert!(service.send_bytes(&upload["request"], file).await.status().is_success());
    });
    sent.buffer_unordered(8).collect::<Vec<()>>().await;
    let ids: Vec<String> = uploads.iter().map(|upload| text(upload, "id")).collect();
    let confirm = async |live: &Live, ids: &[String]| {
        let (status, seen) = live.post("/api/uploads/batch/confirm", json!({"ids": ids})).await;
        assert_eq!(status, 200, "{seen}");
    };
    let count = async |live: &Live, status: &str| {
        let path = format!("/api/uploads?status={status}&limit=1000");
        live.get(&path).await.1["items"].as_array().map_or(0, Vec::len)
    };
    confirm(&live, &ids[..100]).await;
    clamd.kill().await;
    confirm(&live, &ids[100..]).await;
    let served = count(&live, "uploaded").await;
    let waiting = count(&live, "inspecting").await;
    println!("{served} were served and {waiting} waited while the scanner was down");
    assert!(waiting >= 100, "{waiting}");
    // The service is killed too, while inspections are in progress.
    live.kill().await;
    live.restart().await;
    assert!(count(&live, "uploaded").await <= served, "none is served unscanned");
    clamd.start_again().await;
    let limit = Duration::from_mins(3);
    wait_for_at_most(limit, "all inspections", async || {
        (count(&live, "inspecting").await == 0).then_some(())
    })
    .await;
    assert_eq!(count(&live, "uploaded").await, files * 9 / 10);
    assert_eq!(count(&live, "rejected").await, files / 10);
    for (n, id) in ids.iter().enumerate() {
        let (_, upload) = live.send(Method::GET, &format!("/api/uploads/{id}"), None).await;
        let expected = if n.is_multiple_of(10) { "rejected" } else { "uploaded" };
        assert_eq!(upload["status"], expected, "{n}: {upload}");
    }
}

#[tokio::test]
async fn doctor_tests_the_scanner_with_a_virus_and_a_large_archive() {
    let Some(clamd) = Clamd::start().await else { return };
    let database = crate::support::database::TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let checks = async |address: &str, size: &str| {
        let settings = [
            ("database.url", database.url.as_str()),
            ("storage.default.kind", "embedded"),
            ("storage.default.data_dir", data.as_str()),
            ("inspectors.clamav.kind", "clamd"),
            ("inspectors.clamav.address", address),
            ("inspectors.clamav.max_size", size),
            ("policies.tracks.inspect", "clamav"),
        ];
        let settings: Vec<_> =
            settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let output = run(&["doctor", "--json"], &settings).await;
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = found["inspectors"].as_array().unwrap().clone();
        let outcome = |check: &Value| (text(check, "name"), text(check, "outcome"));
        checks.iter().map(outcome).collect::<Vec<_>>()
    };
    let is = |name: &str, outcome: &str| (name.to_owned(), outcome.to_owned());
    let healthy = checks(&clamd.socket(), "20MiB").await;
    assert_eq!(healthy[1..3], [is("clamav: eicar", "pass"), is("clamav: size", "pass")]);
    assert_eq!(healthy[0], is("clamav", "warn"), "it has no official signatures");
    assert_eq!(healthy[3], is("clamav: max_size", "warn"), "tracks may be larger");
    let small = Clamd::with("1M").await.unwrap();
    let found = checks(&small.address(), "20MiB").await;
    assert_eq!(found[1..3], [is("clamav: eicar", "pass"), is("clamav: size", "fail")]);
    assert_eq!(checks("127.0.0.1:1", "20MiB").await[0], is("clamav", "fail"));
}
