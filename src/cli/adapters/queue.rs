//! Builds the queue of bucket events.

use anyhow::{Context as _, anyhow};
use aws_sdk_s3::config::SharedHttpClient;

use crate::config::{Config, SqsConfig};
use crate::storage::probe::Check;
use crate::storage::queue::{Queue as _, Sqs, SqsSettings};
use crate::storage::s3::{DEFAULT_REGION, S3Credentials, region_of_environment};
use crate::telemetry::chain;

/// The queue of `[events.sqs]`, or `None` if none is configured. Sends no request.
pub async fn open(sqs: &SqsConfig, http: &SharedHttpClient) -> anyhow::Result<Option<Sqs>> {
    let Some(queue_url) = sqs.url() else { return Ok(None) };
    let credentials = S3Credentials::configured(
        sqs.access_key_id.as_ref(),
        sqs.secret_access_key.as_ref(),
        sqs.session_token.as_ref(),
    );
    let region = match sqs.region.clone().or_else(|| sqs.region_of_host()) {
        Some(region) => region,
        None => region_of_environment()
            .await
            // Most servers other than Amazon's ignore the region.
            .or_else(|| sqs.endpoint.is_some().then(|| DEFAULT_REGION.to_owned()))
            .ok_or_else(|| anyhow!("events.sqs.region: is missing; set the region of the queue"))?,
    };
    let endpoint = sqs.endpoint.as_deref().map(url::Url::parse).transpose();
    let settings = SqsSettings {
        queue_url,
        endpoint: endpoint.context("events.sqs.endpoint")?,
        region,
        credentials,
        wait: sqs.wait.get(),
        visibility: sqs.visibility.get(),
    };
    Ok(Some(Sqs::connect(&settings, http).await))
}

/// Checks that the queue exists and that the service has access to it. Receives no messages. `None`
/// if no queue is configured.
pub async fn check(config: &Config, http: &SharedHttpClient) -> Option<Check> {
    const NAME: &str = "event_queue";
    let queue = match open(&config.events.sqs, http).await {
        Ok(queue) => queue?,
        Err(error) => {
            return Some(Check::fail(NAME, format!("{error:#}"), "Correct [events.sqs]."));
        }
    };
    Some(match queue.state().await {
        Ok(state) if state.redrives => Check::pass(
            NAME,
            format!(
                "about {} messages are waiting, {} are being handled",
                state.waiting, state.in_flight
            ),
        ),
        Ok(_) => Check::warn(
            NAME,
            "it has no redrive policy: messages that are not bucket events are deleted",
            "Configure a dead-letter queue, so that these messages can be inspected.",
        ),
        Err(error) => Check::fail(
            NAME,
            chain(&error),
            "Correct events.sqs.queue_url, or grant the service sqs:ReceiveMessage, \
             sqs:DeleteMessage, sqs:ChangeMessageVisibility and sqs:GetQueueAttributes.",
        ),
    })
}
