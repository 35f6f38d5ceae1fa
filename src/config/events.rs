//! `[events]`: bucket events, by webhook or from a queue.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::access_keys;
use super::error::ConfigError;
use super::storage::is_endpoint;
use super::value::{self, ConfigDuration};

/// The shortest token, in characters. A shorter one could be guessed over the network.
const MIN_TOKEN_LEN: usize = 16;

/// The longest time that a call can wait for a message (SQS API reference, `ReceiveMessage`).
const MAX_WAIT: Duration = Duration::from_secs(20);

/// The shortest wait. Without it, an empty queue would be called without a pause.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// The limits of the visibility timeout: long enough to process a batch with a slow store, and at
/// most the queue's own limit.
const VISIBILITY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(30)..=Duration::from_hours(12);

/// The largest number of pollers. A few are enough; the limit catches a mistyped number.
const MAX_POLLERS: usize = 32;

/// `[events]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// The token of `POST /api/events/s3`. Without a token, the route is disabled.
    #[serde(deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub token: Option<SecretString>,
    /// `[events.sns]`.
    pub sns: SnsConfig,
    /// `[events.sqs]`.
    pub sqs: SqsConfig,
}

/// `[events.sns]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnsConfig {
    /// The ARNs of the topics whose subscriptions are confirmed.
    #[serde(deserialize_with = "value::strings")]
    pub topics: Vec<String>,
}

/// `[events.sqs]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SqsConfig {
    /// The queue's URL. Without a URL, no queue is polled.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub queue_url: Option<String>,
    /// The endpoint of the queue, if it is not the host of its URL.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub endpoint: Option<String>,
    /// `None` means the region in the queue's host, or else the region of the standard `AWS_*`
    /// variables.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub region: Option<String>,
    /// `None` uses the standard `AWS_*` variables, profiles and instance roles.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub access_key_id: Option<String>,
    /// Set together with `access_key_id`.
    #[serde(deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub secret_access_key: Option<SecretString>,
    /// Set with temporary access keys.
    #[serde(deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub session_token: Option<SecretString>,
    /// How long one call waits for the first message.
    pub wait: ConfigDuration,
    /// How long other receivers do not get a received message (the visibility timeout).
    pub visibility: ConfigDuration,
    /// The number of concurrent pollers in each process.
    #[serde(deserialize_with = "value::number")]
    pub pollers: usize,
}

impl Default for SqsConfig {
    fn default() -> Self {
        Self {
            queue_url: None,
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            wait: ConfigDuration::from_secs(20),
            visibility: ConfigDuration::from_secs(300),
            pollers: 1,
        }
    }
}

impl EventsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let token = self.token.as_ref().map(ExposeSecret::expose_secret);
        if token.is_some_and(|token| {
            token.len() < MIN_TOKEN_LEN || !token.bytes().all(|b| b.is_ascii_graphic())
        }) {
            let problem = format!("must have {MIN_TOKEN_LEN} or more printable ASCII characters");
            return Err(ConfigError::new("events.token", problem));
        }
        self.sns.check()?;
        if token.is_none() && !self.sns.topics.is_empty() {
            return Err(ConfigError::new(
                "events.sns.topics",
                "needs events.token, which is missing",
            ));
        }
        self.sqs.check()
    }
}

impl SnsConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let Some(given) = self.topics.iter().find(|topic| !is_topic(topic)) else { return Ok(()) };
        let problem = "must be the ARNs of topics such as \
                     arn:aws:sns:eu-central-1:123456789012:uploads";
        Err(ConfigError::new("events.sns.topics", format!("{problem}, not \"{given}\"")))
    }
}

/// Whether a text is the ARN of an SNS topic: `arn:PARTITION:sns:REGION:ACCOUNT:NAME`.
fn is_topic(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    matches!(parts.as_slice(), ["arn", partition, "sns", region, account, name]
        if [partition, region, account, name].iter().all(|part| !part.is_empty()))
}

impl SqsConfig {
    /// The queue's URL, if it is valid.
    pub fn url(&self) -> Option<Url> {
        let text = self.queue_url.as_deref().filter(|text| is_endpoint(text))?;
        Url::parse(text).ok().filter(|url| url.path().len() > 1)
    }

    /// The region in the queue's host, if it is a host of Amazon.
    pub fn region_of_host(&self) -> Option<String> {
        let url = self.url()?;
        let host = url.host_str()?;
        let amazons = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
        let region = host.strip_prefix("sqs.").and_then(|remaining| remaining.split('.').next());
        region.filter(|_| amazons).map(str::to_owned)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let fail = |key: &str, problem: String| {
            Err(ConfigError::new(format!("events.sqs.{key}"), problem))
        };
        if let Some(given) = &self.queue_url
            && self.url().is_none()
        {
            let problem = "must be a queue's URL such as \
                         https://sqs.eu-central-1.amazonaws.com/123456789012/uploads";
            return fail("queue_url", format!("{problem}, not \"{given}\""));
        }
        if let Some(given) = self.endpoint.as_deref().filter(|given| !is_endpoint(given)) {
            let problem = "must be a URL such as https://sqs.example.com";
            return fail("endpoint", format!("{problem}, not \"{given}\""));
        }
        let (id, secret) = (self.access_key_id.as_deref(), self.secret_access_key.as_ref());
        if let Err((key, problem)) = access_keys::check(id, secret, self.session_token.as_ref()) {
            return fail(key, problem);
        }
        if !(MIN_WAIT..=MAX_WAIT).contains(&self.wait.get()) {
            return fail("wait", format!("must be from \"1s\" to \"20s\", not \"{}\"", self.wait));
        }
        if !VISIBILITY.contains(&self.visibility.get()) {
            let given = self.visibility;
            return fail("visibility", format!("must be from \"30s\" to \"12h\", not \"{given}\""));
        }
        if !(1..=MAX_POLLERS).contains(&self.pollers) {
            return fail(
                "pollers",
                format!("must be from 1 to {MAX_POLLERS}, not {}", self.pollers),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_of_amazon_have_the_region() {
        let region = |url: &str| {
            SqsConfig { queue_url: Some(url.to_owned()), ..SqsConfig::default() }.region_of_host()
        };
        let amazons = "https://sqs.eu-central-1.amazonaws.com/123456789012/uploads";
        assert_eq!(region(amazons).as_deref(), Some("eu-central-1"));
        assert_eq!(region("http://127.0.0.1:4566/000000000000/uploads"), None);
        assert_eq!(region("https://sqs.example.com/1/q"), None);
        assert_eq!(region("not a URL"), None);
    }
}
