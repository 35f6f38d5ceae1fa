//! Sends webhook deliveries, signed by the Standard Webhooks scheme, and records the
//! outcome of each attempt.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::Sha256;
use url::Url;

use super::{App, AppError, Result};
use crate::db::webhooks::Attempt;
use crate::domain::webhook::{Delivery, retry_after};
use crate::net::OutboundClient;
use crate::telemetry::{chain, metrics as names};

/// How long a process has for the deliveries that it has claimed: much longer than one attempt.
const LEASE: Duration = Duration::from_mins(1);

/// The largest length of an error text that is stored with a delivery, in bytes.
const MAX_ERROR_LEN: usize = 500;

/// A receiver of webhooks.
pub struct Endpoint {
    /// The name in the configuration: `[webhooks.<name>]`.
    pub name: String,
    /// The URL that events are posted to.
    pub url: Url,
    /// The key that bodies are signed with.
    pub secret: SecretSlice<u8>,
}

/// The number of deliveries by outcome.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Delivered.
    pub delivered: usize,
    /// Not delivered. They are retried, or given up.
    pub failed: usize,
}

impl App {
    /// Sends up to `limit` deliveries of an endpoint that are due, all at the same time, and
    /// records the results.
    pub async fn deliver_webhooks(
        &self,
        client: &OutboundClient,
        endpoint: &Endpoint,
        limit: u64,
    ) -> Result<Sent> {
        let now = self.now();
        let due = self.db.webhooks().claim(&endpoint.name, now, now + LEASE, limit).await?;
        let count = due.len();
        let mut outcomes = stream::iter(due)
            .map(|delivery| async move { self.deliver(client, endpoint, &delivery).await })
            .buffer_unordered(count.max(1));
        let mut sent = Sent::default();
        while let Some(delivered) = outcomes.next().await {
            if delivered? {
                sent.delivered += 1;
            } else {
                sent.failed += 1;
            }
        }
        Ok(sent)
    }

    /// Makes one attempt and records its outcome. Returns whether it was delivered.
    async fn deliver(
        &self,
        client: &OutboundClient,
        endpoint: &Endpoint,
        delivery: &Delivery,
    ) -> Result<bool> {
        let outcome = self.post(client, endpoint, delivery).await;
        let now = self.now();
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
        log(endpoint, delivery, &attempt);
        self.db.webhooks().record_attempt(delivery, &attempt, now).await?;
        Ok(matches!(attempt, Attempt::Taken))
    }

    async fn post(
        &self,
        client: &OutboundClient,
        endpoint: &Endpoint,
        delivery: &Delivery,
    ) -> Result<(), String> {
        let id = delivery.id.to_string();
        let at = self.now().timestamp().to_string();
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
        match client.post(&endpoint.url, headers, body).await {
            Ok(response) if response.is_success() => Ok(()),
            Ok(response) => Err(format!("HTTP {}", response.status)),
            Err(error) => {
                let mut text = chain(&error);
                text.truncate(text.floor_char_boundary(MAX_ERROR_LEN));
                Err(text)
            }
        }
    }
}

/// `v1,` and the base64 of the HMAC-SHA256 of id, timestamp and body.
pub fn signature(secret: &[u8], id: &str, at: &str, body: &str) -> Result<String, AppError> {
    let mac = Hmac::<Sha256>::new_from_slice(secret);
    let mut mac = mac.map_err(|_| AppError::Unconfigured("webhooks.secret".to_owned()))?;
    mac.update(format!("{id}.{at}.{body}").as_bytes());
    Ok(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
}

fn log(endpoint: &Endpoint, delivery: &Delivery, attempt: &Attempt) {
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
        Attempt::Retry(next, error) => {
            tracing::warn!(endpoint, %id, attempts, error, %next, "webhook not delivered");
        }
        Attempt::Dead(error) => {
            tracing::error!(endpoint, %id, attempts, error, "webhook not delivered; it will not be tried again");
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
}
