//! `serve` with its own certificate.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnector as _, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::database::TestDatabase;
use crate::support::live::{environment, free_port, run, text};
use crate::support::log;
use crate::support::wait::wait_for_at_most;

const CERTIFICATE: &str = include_str!("../http/keys/localhost.pem");
const KEY: &str = include_str!("../http/keys/localhost-key.pem");

/// The time limit of a start or an end of the process, for a debug build on a slow machine.
const START: Duration = Duration::from_mins(1);

/// A client that trusts only this certificate.
fn trusting(certificate: &str) -> Connector {
    let trusted = TrustStore::empty().with_pem_certificate(certificate.as_bytes());
    let context = TlsContext::builder().with_trust_store(trusted).build().unwrap();
    let settings = HttpConnectorSettings::builder()
        .connect_timeout(Duration::from_secs(3))
        .read_timeout(Duration::from_secs(20))
        .build();
    Connector::builder()
        .connector_settings(settings)
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build()
}

struct TlsResponse {
    status: u16,
    hsts: Option<String>,
    body: Value,
}

async fn send(
    client: &Connector,
    method: &str,
    url: &str,
    body: Option<Value>,
) -> Result<TlsResponse, String> {
    let request = http::Request::builder().method(method).uri(url);
    let request = request.header("content-type", "application/json");
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = request.body(SdkBody::from(body)).unwrap();
    let request = HttpRequest::try_from(request).unwrap();
    let response = client.call(request).await.map_err(|error| format!("{error:?}"))?;
    let (status, hsts) =
        (response.status().as_u16(), response.headers().get("strict-transport-security"));
    let hsts = hsts.map(str::to_owned);
    let body = ByteStream::new(response.into_body()).collect().await.unwrap().into_bytes();
    Ok(TlsResponse { status, hsts, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

/// A folder with a certificate and a key, and the configuration of `serve`.
async fn settings(certificate: &str, key: &str) -> (TempDir, TestDatabase, Vec<(String, String)>) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (cert, secret) = (at("cert.pem"), at("key.pem"));
    std::fs::write(&cert, certificate).unwrap();
    std::fs::write(&secret, key).unwrap();
    let database = TestDatabase::create().await;
    let settings = [
        ("server.bind", format!("127.0.0.1:{}", free_port())),
        ("server.tls.cert", cert),
        ("server.tls.key", secret),
        ("database.url", database.url.clone()),
        ("storage.default.kind", "embedded".to_owned()),
        ("storage.default.data_dir", at("s3")),
        ("storage.default.bind", format!("127.0.0.1:{}", free_port())),
        ("reconcile.schedule", "off".to_owned()),
        ("reconcile.audit_schedule", "off".to_owned()),
        ("reconcile.run_at_start", "false".to_owned()),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value)).into();
    (folder, database, settings)
}

fn serve(settings: &[(String, String)], folder: &Path) -> Child {
    let file = std::fs::File::create(folder.join("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_upload-coordinator"))
        .args(["serve", "--migrate"])
        .envs(environment(settings))
        .stderr(log::of_process().unwrap_or(file))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn the_real_binary_serves_uploads_over_https() {
    let (folder, _database, settings) = settings(CERTIFICATE, KEY).await;
    let mut process = serve(&settings, folder.path());
    let address = settings[0].1.clone();
    let port = address.rsplit_once(':').unwrap().1;
    let url = |path: &str| format!("https://localhost:{port}{path}");
    let client = trusting(CERTIFICATE);
    wait_for_at_most(START, "the service to be ready", async || {
        assert!(process.try_wait().unwrap().is_none(), "the process ended");
        let ready = send(&client, "GET", &url("/readyz"), None).await;
        ready.is_ok_and(|response| response.status == 200).then_some(())
    })
    .await;

    let body = json!({"filename": "a.mp3", "size": 5000});
    let made = send(&client, "POST", &url("/api/uploads"), Some(body)).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.body);
    assert!(made.hsts.is_some_and(|value| value.starts_with("max-age=")), "HSTS");
    let put = text(&made.body["request"], "url");
    assert!(put.contains("X-Amz-Signature="), "it is signed");
    let path = format!("/api/uploads/{}", text(&made.body, "id"));
    let found = send(&client, "GET", &url(&path), None).await.unwrap();
    assert_eq!((found.status, &found.body["status"]), (200, &json!("pending")));
    let none = send(&client, "GET", &url("/api/tracks/x"), None).await.unwrap();
    assert_eq!(none.body["type"], "/problems/not-found");
    assert!(none.hsts.is_some());

    // Plain text gets no response, and does not disturb other clients.
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    for _ in 0..3 {
        let refused = plain.get(format!("http://{address}/healthz"));
        let refused = refused.timeout(Duration::from_secs(20)).send().await;
        assert!(refused.as_ref().is_err_and(|error| !error.is_timeout()), "{refused:?}");
    }
    // The client does not trust another certificate.
    let other = trusting(include_str!("../http/keys/other.pem"));
    assert!(send(&other, "GET", &url("/healthz"), None).await.is_err());
    let alive = send(&client, "GET", &url("/healthz"), None).await.unwrap();
    assert_eq!((alive.status, &alive.body), (200, &json!({"status": "ok"})));

    let id = process.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    let ended = tokio::time::timeout(START, process.wait()).await.unwrap();
    assert_eq!(ended.unwrap().code(), Some(0));
}

#[tokio::test]
async fn serve_and_config_check_refuse_an_invalid_certificate_or_key() {
    let other = include_str!("../http/keys/ec1.pem");
    for (certificate, key, named) in [
        ("no certificate", KEY, "server.tls.cert: "),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", KEY, "server.tls."),
        (CERTIFICATE, "no key", "server.tls.key: "),
        (CERTIFICATE, other, "server.tls.key: "),
        (KEY, CERTIFICATE, "server.tls.cert: "),
    ] {
        let (_folder, _database, settings) = settings(certificate, key).await;
        refuses(&settings, named).await;
    }
    let (_folder, _database, settings) = settings(CERTIFICATE, KEY).await;
    for missing in ["server.tls.cert", "server.tls.key"] {
        let mut settings = settings.clone();
        let path = settings.iter_mut().find(|(key, _)| key == missing).unwrap();
        path.1 = "/no/such/file.pem".to_owned();
        refuses(&settings, &format!("{missing}: /no/such/file.pem")).await;
    }
}

async fn refuses(settings: &[(String, String)], named: &str) {
    for command in [&["serve", "--migrate"], &["config", "check"]] {
        let output = run(command, settings).await;
        let sentence = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{command:?}: {sentence}");
        assert!(sentence.contains(named), "{command:?}: {named}: {sentence}");
        assert_eq!(sentence.trim().lines().count(), 1, "{sentence}");
        assert!(!sentence.contains("BEGIN"), "{sentence}");
    }
}
