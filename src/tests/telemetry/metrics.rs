//! `GET /metrics` of the real binary, after real requests.

use std::collections::BTreeSet;

use actix_web::{App as Actix, HttpResponse, HttpServer, web};
use reqwest::Method;
use serde_json::{Value, json};
use upload_coordinator::telemetry::metrics::{ALL, Kind, Metric};

use super::exposition::Scrape;
use crate::signals::sqs::Real;
use crate::support::live::{Live, text};
use crate::support::wait::wait_for;
use crate::support::{PNG, mp3};

const DASHBOARD: &str = include_str!("../../../config/grafana-dashboard.json");
const ALERTS: &str = include_str!("../../../config/alerts.yml");
const TOKEN: &str = "token-of-the-metrics-test";

/// A receiver that refuses every other webhook, so that both outcomes are seen.
fn receiver() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = HttpServer::new(|| {
        Actix::new().default_service(web::to(async || HttpResponse::NoContent().finish()))
    });
    tokio::spawn(server.workers(1).listen(listener).unwrap().disable_signals().run());
    format!("http://{address}/")
}

/// Uploads in every state, successful and failed requests, runs, events and webhooks.
async fn traffic(live: &Live) -> Vec<String> {
    let mut ids = Vec::new();
    for bytes in [mp3(5000, 1), PNG.to_vec()] {
        let track = live.track().await;
        let request = live.presign(&track, json!({})).await;
        let id = text(&request["upload"], "id");
        assert!(live.send_bytes(&request, bytes).await.status().is_success());
        let (status, seen) = live.post(&format!("/api/uploads/{id}/confirm"), json!({})).await;
        assert_eq!(status, 200, "{seen}");
        ids.push(id);
    }
    let (status, pending) = live.post("/api/uploads", json!({"filename": "a.mp3"})).await;
    assert_eq!(status, 201, "{pending}");
    ids.push(text(&pending, "id"));
    let bucket = "no-bucket-of-ours";
    let event = json!({"Records": [{"eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": "x"}}}]});
    let request = live.http.post(format!("{}/api/events/s3", live.url)).bearer_auth(TOKEN);
    assert_eq!(request.json(&event).send().await.unwrap().status(), 204);
    for mode in ["incremental", "audit"] {
        assert_eq!(live.reconcile(mode).await["status"], "succeeded");
    }
    for path in ["/api/uploads/0190a6f2-7b3c-7def-8123-456789abcdef", "/no/such/path?x=1"] {
        assert_eq!(live.get(path).await.0, 404);
        ids.push(path.rsplit('/').next().unwrap_or_default().to_owned());
    }
    let path = format!("/api/uploads/{}", ids[0]);
    assert_eq!(live.send(Method::DELETE, &path, None).await.0, 204);
    let odd = live.http.request(Method::from_bytes(b"BREW").unwrap(), &live.url);
    assert!(odd.send().await.unwrap().status().is_client_error());
    ids
}

async fn scrape(live: &Live) -> (String, Scrape) {
    let response = live.http.get(format!("{}/metrics", live.url)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.unwrap();
    let scrape = Scrape::read(&text);
    (text, scrape)
}

/// The metrics that a file names, without the suffixes of a histogram's samples.
fn named(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_lowercase() || c == '_';
    let names = text
        .split(|c| !word(c))
        .filter(|name| name.starts_with("upload_coordinator_") || name.starts_with("process_"));
    let histogram =
        |base: &str| ALL.iter().any(|metric| metric.name == base && metric.kind == Kind::Histogram);
    let base = |name: &str| {
        let bases = ["_bucket", "_sum", "_count"].map(|suffix| name.strip_suffix(suffix));
        let base = bases.into_iter().flatten().find(|base| histogram(base));
        base.unwrap_or(name).to_owned()
    };
    names.map(base).collect()
}

#[tokio::test]
async fn every_metric_is_exported_with_its_labels_and_nothing_unbounded() {
    let url = receiver();
    let secret = "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";
    let mut settings: Vec<(String, String)> = [
        ("events.token", TOKEN),
        ("webhooks.allow_private", "true"),
        ("webhooks.crm.url", &url),
        ("webhooks.crm.secret", secret),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let queue = Real::create().await;
    if let Some(queue) = &queue {
        settings.extend(queue.settings());
        queue.send("garbage").await;
    }
    let borrowed: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let live = Live::with(&borrowed).await;
    let ids = traffic(&live).await;
    if let Some(queue) = &queue {
        queue.until_empty().await;
    }
    // Webhooks are sent in the background. On a small table, counts are at most a second old.
    let (text, scrape) = wait_for("a delivered webhook and a removed upload", async || {
        let (text, scrape) = scrape(&live).await;
        let attempts = [("outcome", "taken")];
        let delivered = scrape.sum("upload_coordinator_webhook_attempts_total", &attempts);
        let removed = scrape.sum("upload_coordinator_uploads", &[("status", "removed")]);
        (delivered >= 1.0 && removed >= 1.0).then_some((text, scrape))
    })
    .await;

    // These metrics have no samples, because this test causes no errors of the queue, does not
    // reach the damage limit, and inspects no files. Without a queue, no metric of the queue has
    // samples.
    let silent = |name: &str| {
        name == "upload_coordinator_sqs_errors_total"
            || name == "upload_coordinator_damage_withheld_total"
            || name.starts_with("upload_coordinator_inspection")
            || queue.is_none() && name.starts_with("upload_coordinator_sqs_")
    };
    for Metric { name, kind, labels, help } in ALL {
        if silent(name) {
            continue;
        }
        let (found, found_help) = scrape.families.get(*name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(*found, format!("{kind:?}").to_lowercase(), "{name}");
        assert_eq!(found_help, help, "{name}");
        for (sample, found) in scrape.samples.keys() {
            if scrape.family_of(sample) == *name {
                let found = found.iter().map(|(label, _)| label.as_str());
                let found: BTreeSet<_> = found.filter(|label| *label != "le").collect();
                assert_eq!(found, labels.iter().copied().collect(), "{sample}");
            }
        }
    }
    let known: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
    for name in scrape.families.keys() {
        assert!(known.contains(name.as_str()), "{name} is in no table");
    }
    for id in &ids {
        assert!(!text.contains(id.as_str()), "{id} is no label");
    }
    assert!(!text.contains("BREW") && !text.contains("no-bucket"), "{text}");
    for (sample, labels) in scrape.samples.keys() {
        let bounded = labels.iter().all(|(_, value)| value.len() < 80 && !value.contains('?'));
        assert!(bounded, "{sample} {labels:?}");
    }
    for file in [DASHBOARD, ALERTS] {
        for name in named(file) {
            let exported = scrape.families.contains_key(&name) || silent(&name);
            assert!(exported, "{name} is used and not exported");
        }
    }
    counts_are_right(&scrape);
    if let Some(queue) = queue {
        assert!(
            scrape.sum("upload_coordinator_sqs_messages_total", &[("outcome", "poison")]) >= 1.0
        );
        queue.delete().await;
    }
}

fn counts_are_right(scrape: &Scrape) {
    let is = |name: &str, having: &[(&str, &str)], expected: f64| {
        let name = format!("upload_coordinator_{name}");
        let found = scrape.sum(&name, having);
        assert!((found - expected).abs() < 0.5, "{name} {having:?}: {found}, not {expected}");
    };
    is("uploads_created_total", &[], 3.0);
    is("uploads", &[("status", "pending")], 1.0);
    is("uploads", &[("status", "rejected")], 1.0);
    is("uploads", &[("status", "removed")], 1.0);
    is("upload_transitions_total", &[("status", "uploaded"), ("source", "confirm")], 1.0);
    is("upload_transitions_total", &[("status", "rejected"), ("source", "confirm")], 1.0);
    is("upload_transitions_total", &[("status", "removed"), ("source", "client")], 1.0);
    is("upload_creation_to_uploaded_seconds_count", &[], 1.0);
    is("upload_put_to_uploaded_seconds_count", &[("source", "confirm")], 1.0);
    is("bucket_events_total", &[("outcome", "foreign")], 1.0);
    for mode in ["incremental", "audit"] {
        let run = [("mode", mode), ("trigger", "api"), ("status", "succeeded")];
        is("reconcile_runs_total", &run, 1.0);
    }
    let confirm = "/api/uploads/{id}/confirm";
    is("http_requests_total", &[("route", confirm), ("status", "200")], 2.0);
    is("http_request_duration_seconds_count", &[("route", confirm)], 2.0);
    is("http_requests_total", &[("route", "none"), ("status", "404"), ("method", "GET")], 1.0);
    assert!(scrape.sum("upload_coordinator_oldest_pending_age_seconds", &[]) > 0.0);
    assert!(scrape.sum("upload_coordinator_store_calls_total", &[("outcome", "ok")]) >= 6.0);
    assert!(scrape.sum("upload_coordinator_db_connections", &[]) >= 1.0);
}

#[test]
fn the_dashboard_shows_every_metric_and_alerts_use_no_other() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
    let known: BTreeSet<String> = ALL.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(named(DASHBOARD), known, "the dashboard shows all");
    assert!(named(ALERTS).is_subset(&known));
    assert!(ALERTS.matches("- alert: ").count() >= 10);
}

#[tokio::test]
async fn metrics_can_be_disabled() {
    let live = Live::with(&[("telemetry.metrics", "false")]).await;
    assert_eq!(live.get("/metrics").await.0, 404);
}
