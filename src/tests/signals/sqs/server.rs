//! A real queue, and a bucket that sends its events to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_sqs::config::{BehaviorVersion, Region};
use aws_sdk_sqs::types::QueueAttributeName;
use secrecy::SecretString;
use serde_json::{Value, json};
use upload_coordinator::domain::IdSource as _;
use upload_coordinator::domain::ids::SystemIds;
use upload_coordinator::net::http_client;
use upload_coordinator::storage::queue::{Queue as _, Sqs, SqsSettings};
use upload_coordinator::storage::s3::S3Credentials;
use upload_coordinator::workers::bucket_events::BucketEvents;

use super::envelopes;
use crate::signals::{credentials, puts_are_confirmed_within_a_second, send_events_to, variable};
use crate::support::live::{Live, run, text};
use crate::support::mp3;
use crate::support::wait::wait_for;
use crate::support::world::World;

/// A new queue on the server that the environment variables name.
pub struct Real {
    client: aws_sdk_sqs::Client,
    url: String,
    arn: String,
}

impl Real {
    /// `None` if there is no server.
    pub async fn create() -> Option<Self> {
        let endpoint = std::env::var("TEST_SQS_ENDPOINT").ok()?;
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .region(Region::new(variable("TEST_S3_REGION")))
            .credentials_provider(credentials())
            .http_client(http_client())
            .build();
        let client = aws_sdk_sqs::Client::from_conf(config);
        let name = format!("uc-{}", SystemIds.uuid().as_simple());
        let made = client.create_queue().queue_name(name).send().await.unwrap();
        let url = made.queue_url.unwrap();
        let response = client.get_queue_attributes().queue_url(&url);
        let response = response.attribute_names(QueueAttributeName::QueueArn).send().await.unwrap();
        let arn = response.attributes.unwrap()[&QueueAttributeName::QueueArn].clone();
        Some(Self { client, url, arn })
    }

    async fn set(&self, name: QueueAttributeName, value: &Value) {
        let set = self.client.set_queue_attributes().queue_url(&self.url);
        set.attributes(name, value.to_string()).send().await.unwrap();
    }

    pub async fn send(&self, body: impl ToString) {
        let sent = self.client.send_message().queue_url(&self.url).message_body(body.to_string());
        sent.send().await.unwrap();
    }

    /// Makes the bucket send its events to this queue.
    async fn take_events(&self) {
        let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sqs:SendMessage",
            "Resource": self.arn}]});
        self.set(QueueAttributeName::Policy, &policy).await;
        send_events_to(&self.arn, Some("all")).await;
    }

    async fn open(&self, url: &str, stranger: Option<&str>) -> Sqs {
        let id = stranger.map_or_else(|| variable("TEST_S3_ACCESS_KEY_ID"), str::to_owned);
        let settings = SqsSettings {
            queue_url: url.parse().unwrap(),
            endpoint: None,
            region: variable("TEST_S3_REGION"),
            credentials: S3Credentials::Static {
                access_key_id: id,
                secret_access_key: SecretString::from(variable("TEST_S3_SECRET_ACCESS_KEY")),
                session_token: None,
            },
            wait: Duration::from_secs(1),
            visibility: Duration::from_secs(30),
        };
        Sqs::connect(&settings, &http_client()).await
    }

    /// Waits until the queue is empty.
    pub async fn until_empty(&self) {
        let queue = self.open(&self.url, None).await;
        wait_for("an empty queue", async || {
            let state = queue.state().await.unwrap();
            (state.waiting + state.in_flight == 0).then_some(())
        })
        .await;
    }

    /// The keys of `[events.sqs]`.
    pub fn settings(&self) -> Vec<(String, String)> {
        [
            ("queue_url", self.url.clone()),
            ("region", variable("TEST_S3_REGION")),
            ("access_key_id", variable("TEST_S3_ACCESS_KEY_ID")),
            ("secret_access_key", variable("TEST_S3_SECRET_ACCESS_KEY")),
        ]
        .map(|(key, value)| (format!("events.sqs.{key}"), value))
        .into()
    }

    pub async fn delete(self) {
        let deleted = self.client.delete_queue().queue_url(&self.url).send().await;
        deleted.unwrap();
    }
}

#[tokio::test]
async fn a_real_buckets_own_events_confirm_within_a_second_of_the_put() {
    let Some(real) = Real::create().await else { return };
    let settings = real.settings();
    let settings: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let mut live = Live::with(&settings).await;
    // An invalid message comes before all others.
    for poison in ["garbage", "{\"Records\": [1]}", "{}"] {
        real.send(poison).await;
    }
    real.take_events().await;
    puts_are_confirmed_within_a_second(&live).await;
    // The other envelopes, through a real queue.
    let bucket = variable("TEST_S3_BUCKET");
    for n in 1..4 {
        let track = live.track().await;
        let request = live.presign(&track, json!({})).await;
        let key = text(&request["upload"], "key");
        real.send(&envelopes(&bucket, &key)[n]).await;
        assert!(live.send_bytes(&request, mp3(1000, 9)).await.status().is_success());
        real.send(&envelopes(&bucket, &key)[n]).await;
        let path = format!("/api/uploads/{}?wait=30", text(&request["upload"], "id"));
        let (_, upload) = live.get(&path).await;
        assert_eq!(upload["status"], "uploaded", "{upload}");
    }
    real.until_empty().await;
    let response = Instant::now();
    assert_eq!(live.terminate().await, Some(0), "it stops in an orderly way");
    assert!(response.elapsed() < Duration::from_secs(10), "a long poll does not delay the stop");
    real.delete().await;
}

#[tokio::test]
async fn a_real_queue_postpones_and_redrives_and_its_errors_have_a_reason() {
    let Some(real) = Real::create().await else { return };
    let queue = real.open(&real.url, None).await;
    assert!(queue.receive().await.unwrap().is_empty());
    real.send("one").await;
    let first = queue.receive().await.unwrap().remove(0);
    assert_eq!((first.body.as_str(), first.receives), ("one", 1));
    assert_eq!(queue.state().await.unwrap().in_flight, 1);
    queue.postpone(&first.receipt, Duration::ZERO).await.unwrap();
    let again = queue.receive().await.unwrap().remove(0);
    assert_eq!((again.id, again.receives), (first.id, 2));
    assert_eq!(queue.delete(&[again.receipt]).await.unwrap(), 0);
    assert!(!queue.state().await.unwrap().redrives);

    let dead = Real::create().await.unwrap();
    let policy = json!({"deadLetterTargetArn": dead.arn, "maxReceiveCount": "1"});
    real.set(QueueAttributeName::RedrivePolicy, &policy).await;
    assert!(queue.state().await.unwrap().redrives);
    real.send("garbage").await;
    let world = World::new().await;
    let worker = BucketEvents::new(world.app.clone(), Arc::new(queue.clone()));
    assert_eq!(worker.handle_batch().await.unwrap().poison, 1);
    assert_eq!(queue.state().await.unwrap().in_flight, 1, "the redrive policy handles it");

    let missing = real.open(&format!("{}-missing", real.url), None).await;
    assert_eq!(missing.receive().await.unwrap_err().kind(), "no_such_queue");
    let stranger = real.open(&real.url, Some("stranger")).await;
    assert_eq!(stranger.receive().await.unwrap_err().kind(), "access_denied");
    dead.delete().await;
    real.delete().await;
}

#[tokio::test]
async fn the_service_stays_up_without_its_queue_and_doctor_reports_it() {
    let Some(real) = Real::create().await else { return };
    let mut settings = real.settings();
    settings[0].1 = format!("{}-missing", real.url);
    let borrowed: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let live = Live::with(&borrowed).await;
    assert_eq!(live.get("/readyz").await.0, 200);
    let store = [
        ("storage.default.endpoint", "TEST_S3_ENDPOINT"),
        ("storage.default.region", "TEST_S3_REGION"),
        ("storage.default.bucket", "TEST_S3_BUCKET"),
        ("storage.default.access_key_id", "TEST_S3_ACCESS_KEY_ID"),
        ("storage.default.secret_access_key", "TEST_S3_SECRET_ACCESS_KEY"),
    ];
    settings.extend(store.map(|(key, name)| (key.to_owned(), variable(name))));
    let check = async |settings: &[(String, String)]| {
        let output = run(&["doctor", "--json"], settings).await;
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        (found["events"][0]["outcome"].clone(), found["events"][0]["saw"].clone())
    };
    let (outcome, saw) = check(&settings).await;
    assert_eq!(outcome, "fail", "{saw}");
    assert!(saw.to_string().contains("does not exist"), "{saw}");
    settings[0].1.clone_from(&real.url);
    assert_eq!(check(&settings).await.0, "warn", "no redrive policy");
    real.delete().await;
}
