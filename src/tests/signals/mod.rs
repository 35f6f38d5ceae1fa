//! Notifications: waiting clients, event streams, bucket events, webhooks and inspectors over HTTP.

mod events;
mod inspectors;
mod outbox;
mod runs;
mod sns;
pub mod sqs;
mod waiting;
pub mod webhooks;

use std::time::{Duration, Instant};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::types::{Event, NotificationConfiguration, QueueConfiguration};
use serde_json::{Value, json};
use upload_coordinator::net::http_client;

use crate::support::live::{Live, text};
use crate::support::mp3;

/// Checks that a waiting client quickly notices its PUT, because of the bucket's event.
async fn puts_are_confirmed_within_a_second(live: &Live) {
    let mut waits = Vec::new();
    for n in 0..5 {
        let track = live.track().await;
        let request = live.presign(&track, json!({})).await;
        let path = format!("/api/uploads/{}?wait=30", text(&request["upload"], "id"));
        let poll = live.http.get(format!("{}{path}", live.url)).send();
        let put = async {
            assert!(live.send_bytes(&request, mp3(200_000, n)).await.status().is_success());
            Instant::now()
        };
        let (response, stored) = tokio::join!(async { (poll.await, Instant::now()) }, put);
        let upload: Value = response.0.unwrap().json().await.unwrap();
        assert_eq!(upload["status"], "uploaded", "{upload}");
        assert_eq!(upload["confirmed_by"], "event", "{upload}");
        waits.push(response.1.saturating_duration_since(stored));
    }
    println!("from the PUT's response to `uploaded`: {waits:?}");
    assert!(waits.iter().all(|wait| *wait < Duration::from_secs(1)), "{waits:?}");
}

fn variable(name: &str) -> String {
    std::env::var(name).expect(name)
}

fn credentials() -> Credentials {
    let (id, secret) = ("TEST_S3_ACCESS_KEY_ID", "TEST_S3_SECRET_ACCESS_KEY");
    Credentials::new(variable(id), variable(secret), None, None, "test")
}

/// Makes the bucket send its events to a queue, or to a webhook. MinIO uses the same configuration
/// for both.
async fn send_events_to(queue: &str, id: Option<&str>) {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(variable("TEST_S3_ENDPOINT"))
        .region(Region::new(variable("TEST_S3_REGION")))
        .credentials_provider(credentials())
        .force_path_style(true)
        .http_client(http_client())
        .build();
    let queue = QueueConfiguration::builder()
        .queue_arn(queue)
        .set_id(id.map(str::to_owned))
        .events(Event::from("s3:ObjectCreated:*"))
        .events(Event::from("s3:ObjectRemoved:*"))
        .build()
        .unwrap();
    let created = aws_sdk_s3::Client::from_conf(config)
        .put_bucket_notification_configuration()
        .bucket(variable("TEST_S3_BUCKET"))
        .notification_configuration(
            NotificationConfiguration::builder().queue_configurations(queue).build(),
        )
        .send()
        .await;
    created.unwrap();
}
