//! Credentials that the store no longer accepts.

use std::net::Ipv4Addr;
use std::path::Path;

use embedded_s3::{EmbeddedS3, EmbeddedS3Config, Limits};
use serde_json::json;
use upload_coordinator::storage::cause::Cause;

use crate::support::live::{Live, free_port};
use crate::support::wait::wait_for;

const SECRET: &str = "the-first-secret-of-the-store";

async fn store(data: &Path, port: u16, secret: &str) -> EmbeddedS3 {
    let config = || EmbeddedS3Config {
        data_dir: data.to_owned(),
        bind: (Ipv4Addr::LOCALHOST, port).into(),
        region: "us-east-1".into(),
        access_key_id: "embedded".into(),
        secret_access_key: secret.into(),
        buckets: vec!["music".into()],
        host_domain: None,
        limits: Limits::default(),
        refuse_conditions: false,
    };
    // The port may be in use for a moment longer.
    wait_for("the store", async || EmbeddedS3::start(config()).await.ok()).await
}

#[tokio::test]
async fn no_url_is_signed_by_credentials_that_the_store_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let running = store(folder.path(), port, SECRET).await;
    let settings = [
        ("endpoint", format!("http://127.0.0.1:{port}")),
        ("region", "us-east-1".to_owned()),
        ("bucket", "music".to_owned()),
        ("access_key_id", "embedded".to_owned()),
        ("secret_access_key", SECRET.to_owned()),
    ];
    let live = Live::serving(&settings, &[("telemetry.log", "error")]).await;
    let track = live.track().await;
    let path = format!("/api/tracks/{track}/presigned-url");
    let create = async || live.post(&path, json!({})).await;
    assert_eq!(create().await.0, 201);

    running.shutdown().await;
    let running = store(folder.path(), port, "the-second-secret-of-the-store").await;
    let problem = wait_for("a refusal to sign", async || {
        // A request to `readyz` checks the store, at most once per second. The worker checks it
        // only every ten seconds.
        live.get("/readyz").await;
        let (status, body) = create().await;
        (status != 201).then_some((status, body))
    })
    .await;
    assert_eq!(problem.0, 503, "{problem:?}");
    assert_eq!(problem.1["type"], "/problems/unavailable", "{problem:?}");
    let (status, ready) = live.get("/readyz").await;
    assert_eq!(status, 503, "{ready}");
    assert_eq!(ready["checks"]["bucket.default"], Cause::WrongSecret.sentence(), "{ready}");
    let metrics = live.http.get(format!("{}/metrics", live.url)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let gauge = "upload_coordinator_store_credential_refusals{store=\"default\"} ";
    let refusals = metrics.lines().find_map(|line| line.strip_prefix(gauge)).unwrap();
    assert!(refusals.parse::<f64>().unwrap() >= 3.0, "{refusals}");
    let log = live.log_text();
    assert!(log.contains("no URL is signed until it accepts them again"), "{log}");
    assert!(!log.contains(SECRET), "{log}");

    running.shutdown().await;
    let running = store(folder.path(), port, SECRET).await;
    wait_for("a URL", async || {
        live.get("/readyz").await;
        (create().await.0 == 201).then_some(())
    })
    .await;
    drop(live);
    running.shutdown().await;
}
