//! Bucket events, over HTTP and from a real MinIO.

use reqwest::Method;
use serde_json::{Value, json};
use upload_coordinator::domain::Status;
use upload_coordinator::domain::upload::ConfirmedBy;
use upload_coordinator::storage::memory::Operation;
use upload_coordinator::storage::{ObjectStore as _, StoreError};

use super::{puts_are_confirmed_within_a_second, send_events_to, variable};
use crate::support::ID3;
use crate::support::live::Live;
use crate::support::served::{Served, TOKEN};

fn event(bucket: &str, key: &str, name: &str) -> Value {
    json!({"EventName": name, "Key": format!("{bucket}/{key}"), "Records": [{"eventName": name,
        "s3": {"bucket": {"name": bucket}, "object": {"key": key.replace('/', "%2F")}}}]})
}

impl Served {
    async fn send_event(&self, token: Option<&str>, message: &Value) -> u16 {
        let mut request = self.client.post(format!("{}/api/events/s3", self.url)).json(message);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.send().await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn an_event_causes_an_observation_of_the_object() {
    let served = Served::new().await;
    let upload = served.world.upload().await;
    let created = event("memory", upload.key.as_str(), "s3:ObjectCreated:Put");
    assert_eq!(served.send_event(Some(TOKEN), &created).await, 204);
    assert_eq!(
        served.world.get(upload.id).await.status(),
        Status::Pending,
        "an event alone confirms nothing"
    );
    served.world.put(&upload, ID3).await;
    for _ in 0..2 {
        assert_eq!(
            served.send_event(Some(TOKEN), &created).await,
            204,
            "duplicates are accepted too"
        );
    }
    let seen = served.world.get(upload.id).await;
    assert_eq!(seen.status(), Status::Uploaded);
    assert_eq!(seen.state.verified().map(|v| v.confirmed_by), Some(ConfirmedBy::Event));
    // Events have no order: an event of a deletion can arrive although the object exists.
    let removed = event("memory", upload.key.as_str(), "s3:ObjectRemoved:Delete");
    assert_eq!(served.send_event(Some(TOKEN), &removed).await, 204);
    assert_eq!(served.world.get(upload.id).await.version, seen.version);
    // An absence counts only if it was seen after the verification.
    served.world.pass(chrono::TimeDelta::seconds(1));
    served.world.store.delete(upload.key.as_str()).await.unwrap();
    assert_eq!(served.send_event(Some(TOKEN), &removed).await, 204);
    assert_eq!(served.world.get(upload.id).await.status(), Status::Missing);
    served.stop().await;
}

#[tokio::test]
async fn events_are_accepted_only_with_the_token() {
    let served = Served::new().await;
    let message = event("memory", "tracks/x", "s3:ObjectCreated:Put");
    for (token, status) in [(None, 401), (Some("wrong"), 401), (Some(""), 401), (Some(TOKEN), 204)]
    {
        assert_eq!(served.send_event(token, &message).await, status, "{token:?}");
    }
    served.stop().await;
}

#[tokio::test]
async fn events_of_foreign_objects_are_accepted_and_garbage_is_refused() {
    let served = Served::new().await;
    let upload = served.world.upload().await;
    served.world.put(&upload, ID3).await;
    for (bucket, key) in [
        ("another", upload.key.as_str()),
        ("memory", "backups/db.dump"),
        ("memory", "tracks/f/0190a6f2-7b3c-7def-8123-456789abcdef"),
        ("memory", &format!("../{}", upload.key)),
    ] {
        let message = event(bucket, key, "s3:ObjectCreated:Put");
        assert_eq!(served.send_event(Some(TOKEN), &message).await, 204, "{bucket} {key}");
    }
    let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "memory"});
    assert_eq!(served.send_event(Some(TOKEN), &test).await, 204);
    for garbage in [json!({}), json!({"Records": "x"}), json!([1]), json!({"Records": [null]})] {
        assert_eq!(served.send_event(Some(TOKEN), &garbage).await, 400, "{garbage}");
    }
    assert_eq!(served.world.get(upload.id).await.status(), Status::Pending);
    served.stop().await;
}

#[tokio::test]
async fn while_the_store_is_down_the_sender_must_retry() {
    let served = Served::new().await;
    let upload = served.world.upload().await;
    served.world.put(&upload, ID3).await;
    let message = event("memory", upload.key.as_str(), "s3:ObjectCreated:Put");
    let down = || StoreError::Unavailable("down".into());
    served.world.store.fail_next(Operation::Head, 1, down);
    assert_eq!(served.send_event(Some(TOKEN), &message).await, 503);
    assert_eq!(served.send_event(Some(TOKEN), &message).await, 204);
    assert_eq!(served.world.get(upload.id).await.status(), Status::Uploaded);
    served.stop().await;
}

/// Runs only if a MinIO was started whose webhook calls this test.
#[tokio::test]
async fn minios_own_webhook_confirms_within_a_second_of_the_put() {
    let Ok(address) = std::env::var("TEST_S3_WEBHOOK_ADDRESS") else { return };
    let token = variable("TEST_S3_WEBHOOK_TOKEN");
    let live = Live::with(&[("server.bind", &address), ("events.token", &token)]).await;
    send_events_to(&variable("TEST_S3_WEBHOOK_ARN"), None).await;
    puts_are_confirmed_within_a_second(&live).await;
    let (status, _) = live.send(Method::GET, "/readyz", None).await;
    assert_eq!(status, 200);
}
