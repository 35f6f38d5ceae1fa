//! The complete log of the real binary during one session.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::live::{Live, text};
use crate::support::mp3;

const EVENT_TOKEN: &str = "an-event-token-that-is-secret";
const WEBHOOK_SECRET: &str = "whsec_QmVDYXJlZnVsV2l0aFRoaXNXZWJob29rU2VjcmV0";

/// Creates a track; uploads files by PUT, in parts and through the service; signs a form and a
/// download; and causes errors. Returns the signed URLs, and the signature of the form.
async fn session(live: &Live) -> Vec<String> {
    let mut signed = Vec::new();
    let track = live.track().await;
    let request = live.presign(&track, json!({"filename": "a.mp3", "size": 5000})).await;
    assert!(live.send_bytes(&request, mp3(5000, 1)).await.status().is_success());
    signed.push(text(&request, "url"));
    let id = text(&request["upload"], "id");
    let confirm = format!("/api/uploads/{id}/confirm");
    assert_eq!(live.post(&confirm, json!({})).await.0, 200);
    let (_, file) = live.get(&format!("/api/tracks/{track}/file?redirect=false")).await;
    signed.push(text(&file, "url"));
    let body = json!({"filename": "b.mp3", "strategy": "post"});
    let (status, form) = live.post("/api/uploads", body).await;
    if status == 201 {
        signed.push(text(&form["request"]["fields"], "X-Amz-Signature"));
    }
    let size = 6 << 20;
    let body = json!({"filename": "c.mp3", "size": size, "strategy": "multipart"});
    let (status, upload) = live.post("/api/uploads", body).await;
    assert_eq!(status, 201, "{upload}");
    let id = text(&upload, "id");
    let parts = format!("/api/uploads/{id}/parts");
    let (_, parts) = live.post(&parts, json!({"part_numbers": [1]})).await;
    assert!(live.send_bytes(&parts["parts"][0], mp3(size, 2)).await.status().is_success());
    signed.push(text(&parts["parts"][0], "url"));
    assert_eq!(live.post(&format!("/api/uploads/{id}/complete"), json!({})).await.0, 200);
    let direct = format!("{}/api/tracks/{track}/upload/d.mp3", live.url);
    let sent = live.http.put(direct).header("content-type", "audio/mpeg").body(mp3(900, 3));
    assert_eq!(sent.send().await.unwrap().status(), 200);
    // Clients may paste signed URLs into other parameters.
    let query = signed[0].split_once('?').unwrap().1.to_owned();
    for path in [format!("/api/tracks?search=x&{query}"), format!("/nowhere?{query}")] {
        assert!(live.get(&path).await.0 >= 400);
    }
    let gone = signed[0].replace("X-Amz-Expires=", "X-Amz-Expires=1");
    assert!(live.http.put(gone).body("x").send().await.unwrap().status().is_client_error());
    let events = format!("{}/api/events/s3", live.url);
    for token in [EVENT_TOKEN, "an-event-token-that-is-wrong"] {
        let event = live.http.post(&events).bearer_auth(token).json(&json!({"Records": []}));
        assert!(event.send().await.unwrap().status().as_u16() < 500);
    }
    assert_eq!(live.send(Method::DELETE, &format!("/api/uploads/{id}"), None).await.0, 204);
    for mode in ["incremental", "audit"] {
        live.reconcile(mode).await;
    }
    signed
}

#[tokio::test]
async fn a_whole_session_at_debug_level_logs_no_secret_and_no_signature() {
    // Nobody listens on this port, so its errors are logged together with the URL.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook?key=a-secret-in-a-query", nobody.local_addr().unwrap());
    drop(nobody);
    let mut live = Live::with(&[
        ("telemetry.log", "debug"),
        ("telemetry.log_format", "json"),
        ("events.token", EVENT_TOKEN),
        ("webhooks.allow_private", "true"),
        ("webhooks.crm.url", &url),
        ("webhooks.crm.secret", WEBHOOK_SECRET),
    ])
    .await;
    let signed = session(&live).await;
    let token = live.use_upload_token().await;
    let metrics = live.http.get(format!("{}/metrics", live.url)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    // Only the last part of the token is secret. The id before it is not.
    let token = token.rsplit('_').next().unwrap();
    assert!(metrics.contains("/api/uploads") && !metrics.contains(token));
    let store_secrets = live.store_secrets();
    assert!(!store_secrets.is_empty());
    assert_eq!(live.terminate().await, Some(0));
    let log = live.log_text();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 25, "{}", lines.len());
    assert!(log.contains("webhook not delivered"), "the failures are logged");

    let lower = log.to_lowercase();
    // The names of bad parameters are logged, but not their values.
    for never in ["x-amz-signature=", "x-amz-credential=", "x-amz-security-token="] {
        assert!(!lower.contains(never), "{never}");
    }
    for url in &signed {
        let signature = url.split("X-Amz-Signature=").nth(1).unwrap_or(url);
        let signature = signature.split('&').next().unwrap_or_default();
        assert!(signature.len() >= 64 && !log.contains(signature), "{signature}");
    }
    assert!(!log.contains(token) && log.contains("/t/[redacted]/api/uploads"));
    let webhook = WEBHOOK_SECRET.strip_prefix("whsec_").unwrap();
    for secret in store_secrets.iter().map(String::as_str).chain([EVENT_TOKEN, webhook, "a-secret"])
    {
        assert!(!log.contains(secret), "a secret is in the log");
    }

    let completed: Vec<_> =
        lines.iter().filter(|line| line["message"] == "request completed").collect();
    assert!(completed.len() > 10);
    for line in completed {
        assert!(line["span"]["request_id"].is_string(), "{line}");
        let path = line["span"]["path"].as_str().unwrap();
        let owned = path.starts_with("/api/tracks") || path.starts_with("/api/uploads");
        let known = line["status"] != 404 && line["status"] != 405;
        assert!(!owned || !known || line["owner"].is_string(), "{line}");
        assert_eq!(path.ends_with("/nowhere"), line["route"].is_null(), "{line}");
    }
}
