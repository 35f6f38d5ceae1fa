//! Delivers webhooks, signed after the Standard Webhooks scheme.
//!
//! Each endpoint has a task of its own and a circuit: a receiver that is down is asked
//! less and less often, and delays nobody else.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::Sha256;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use url::Url;

use super::{App, AppError, Result};
use crate::db::outbox::Attempt;
use crate::domain::Timestamp;
use crate::domain::webhook::{Delivery, retry_after};
use crate::net::OutboundClient;
use crate::telemetry::{chain, metrics as names};

/// How long a claimed delivery is left to its claimer: well over one attempt.
const LEASE: Duration = Duration::from_mins(1);

/// How many deliveries of an endpoint are under way at once.
const BATCH: u64 = 8;

/// How often the outbox is looked into for other processes' changes, and for retries.
const POLL: Duration = Duration::from_secs(1);

/// After so many failures in a row an endpoint counts as down.
const DOWN_AFTER: u32 = 5;

/// How long an endpoint that is down is left alone, at most.
const MAX_PAUSE: Duration = Duration::from_mins(5);

/// Where news is sent.
pub struct Endpoint {
    /// `[webhooks.<name>]`.
    pub name: String,
    /// Its address.
    pub url: Url,
    /// The key that bodies are signed with.
    pub secret: SecretSlice<u8>,
}

/// Sends what is in the outbox.
pub struct Courier {
    app: Arc<App>,
    client: OutboundClient,
}

/// The running tasks; dropping this ends them. What they were sending is sent again.
pub struct Couriers(Vec<JoinHandle<()>>);

impl Drop for Couriers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Courier {
    /// One that sends with this client.
    pub fn new(app: Arc<App>, client: OutboundClient) -> Self {
        Self { app, client }
    }

    /// Begins to deliver, a task an endpoint.
    pub fn start(self, endpoints: Vec<Endpoint>) -> Couriers {
        let courier = Arc::new(self);
        let tasks = endpoints.into_iter().map(|endpoint| {
            let courier = Arc::clone(&courier);
            tokio::spawn(async move { courier.serve(&endpoint).await })
        });
        Couriers(tasks.collect())
    }

    async fn serve(&self, endpoint: &Endpoint) {
        let mut circuit = Circuit::default();
        loop {
            let news = self.app.db.news_to_deliver();
            match self.deliver_due(endpoint, &mut circuit).await {
                Ok(0) => drop(timeout(POLL, news).await),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(
                        endpoint = endpoint.name,
                        error = &error as &dyn std::error::Error,
                        "the outbox can't be read"
                    );
                    sleep(POLL).await;
                }
            }
            if let Some(pause) = circuit.pause() {
                sleep(pause).await;
            }
        }
    }

    /// Sends what is due now; answers how many that were.
    pub async fn deliver_due(&self, endpoint: &Endpoint, circuit: &mut Circuit) -> Result<usize> {
        let now = self.app.now();
        // One delivery shows whether a receiver is back.
        let limit = if circuit.pause().is_some() { 1 } else { BATCH };
        let due = self.app.db.claim_deliveries(&endpoint.name, now, now + LEASE, limit).await?;
        let count = due.len();
        let mut sent = stream::iter(due)
            .map(|delivery| async move { self.deliver(endpoint, &delivery).await })
            .buffer_unordered(count.max(1));
        while let Some(taken) = sent.next().await {
            circuit.note(taken?);
        }
        Ok(count)
    }

    /// Sends one delivery and notes how it went; whether the receiver took it.
    async fn deliver(&self, endpoint: &Endpoint, delivery: &Delivery) -> Result<bool> {
        let outcome = self.send(endpoint, delivery).await;
        let now = self.app.now();
        let attempt = match outcome {
            Ok(()) => Attempt::Taken,
            Err(error) => {
                let at = now + retry_after(delivery.attempts, rand::random());
                if at > delivery.give_up_at {
                    Attempt::Dead(error)
                } else {
                    Attempt::Retry(at, error)
                }
            }
        };
        note(endpoint, delivery, &attempt);
        self.app.db.end_attempt(delivery, &attempt, now).await?;
        Ok(matches!(attempt, Attempt::Taken))
    }

    async fn send(&self, endpoint: &Endpoint, delivery: &Delivery) -> Result<(), String> {
        let id = delivery.id.to_string();
        let at = self.app.now().timestamp().to_string();
        let signature = signature(endpoint.secret.expose_secret(), &id, &at, &delivery.payload)
            .map_err(|error| error.to_string())?;
        let headers = [
            ("content-type", "application/json"),
            ("user-agent", "upload-coordinator"),
            ("webhook-id", id.as_str()),
            ("webhook-timestamp", at.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        let body = Bytes::from(delivery.payload.clone());
        let answer = self.client.post(&endpoint.url, headers, body).await;
        match answer {
            Ok(answer) if answer.is_success() => Ok(()),
            Ok(answer) => Err(format!("HTTP {}", answer.status)),
            Err(error) => {
                let mut text = chain(&error);
                text.truncate(text.floor_char_boundary(500));
                Err(text)
            }
        }
    }
}

/// `v1,` and the base64 of the HMAC-SHA256 of id, time and body.
pub fn signature(secret: &[u8], id: &str, at: &str, body: &str) -> Result<String, AppError> {
    let mac = Hmac::<Sha256>::new_from_slice(secret);
    let mut mac = mac.map_err(|_| AppError::Unconfigured("webhooks.secret".to_owned()))?;
    mac.update(format!("{id}.{at}.{body}").as_bytes());
    Ok(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
}

/// How an endpoint has been doing.
#[derive(Debug, Default)]
pub struct Circuit {
    failures: u32,
}

impl Circuit {
    fn note(&mut self, taken: bool) {
        self.failures = if taken { 0 } else { self.failures.saturating_add(1) };
    }

    /// How long the endpoint is to be left alone, where it counts as down.
    pub fn pause(&self) -> Option<Duration> {
        let over = self.failures.checked_sub(DOWN_AFTER)?;
        Some(Duration::from_secs(5 << over.min(10)).min(MAX_PAUSE))
    }
}

fn note(endpoint: &Endpoint, delivery: &Delivery, attempt: &Attempt) {
    let (endpoint, id, attempts) = (&endpoint.name, delivery.id, delivery.attempts);
    let outcome = match attempt {
        Attempt::Taken => "taken",
        Attempt::Retry(..) => "failed",
        Attempt::Dead(_) => "given_up",
    };
    metrics::counter!(names::WEBHOOK_ATTEMPTS,
        "endpoint" => endpoint.clone(), "outcome" => outcome)
    .increment(1);
    match attempt {
        Attempt::Taken => tracing::debug!(endpoint, %id, attempts, "webhook delivered"),
        Attempt::Retry(at, error) => {
            let at: &Timestamp = at;
            tracing::warn!(endpoint, %id, attempts, error, next = %at, "webhook not delivered");
        }
        Attempt::Dead(error) => {
            tracing::error!(endpoint, %id, attempts, error, "webhook given up");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_standard_webhooks_examples() {
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = signature(
            &secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn an_endpoint_that_is_down_is_asked_less_and_less_often() {
        let pause = |failures| Circuit { failures }.pause().map(|pause| pause.as_secs());
        assert_eq!([0, 4, 5, 6, 99].map(pause), [None, None, Some(5), Some(10), Some(300)]);
    }
}
