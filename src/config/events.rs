//! `[events]`: bucket events as hints, by webhook or from a queue.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::error::ConfigError;
use super::storage::is_endpoint;
use super::value::{self, ConfigDuration};

/// Guessing a shorter one over the network is not out of the question.
const MIN_TOKEN_LEN: usize = 16;

/// The longest that a call may wait for a message (SQS API reference, `ReceiveMessage`).
const MAX_WAIT: Duration = Duration::from_secs(20);

/// Without waiting, an empty queue would be asked again and again.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// Handling a batch takes a few calls to a store that may be slow; the queue allows 12 h.
const VISIBILITY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(30)..=Duration::from_hours(12);

/// More earn nothing: one takes about two hundred messages a second.
const MAX_POLLERS: usize = 32;

/// `[events]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// What senders of `POST /api/events/s3` show; without one the route is off.
    #[serde(deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub token: Option<SecretString>,
    /// `[events.sqs]`.
    pub sqs: SqsConfig,
}

/// `[events.sqs]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SqsConfig {
    /// The queue; without one nothing is polled.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub queue_url: Option<String>,
    /// Where the queue is reached, where that is not the URL's own host.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub endpoint: Option<String>,
    /// None is that of the queue's host, else what the standard `AWS_*` variables say.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub region: Option<String>,
    /// None leaves it to the standard `AWS_*` variables, profiles and instance roles.
    #[serde(deserialize_with = "value::optional_text", serialize_with = "value::text_or_empty")]
    pub access_key_id: Option<String>,
    /// Belongs to `access_key_id`.
    #[serde(deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub secret_access_key: Option<SecretString>,
    /// Belongs to temporary access keys.
    #[serde(deserialize_with = "value::secret", serialize_with = "value::masked")]
    pub session_token: Option<SecretString>,
    /// How long one call waits for a first message.
    pub wait: ConfigDuration,
    /// For how long messages that were taken are hidden from others.
    pub visibility: ConfigDuration,
    /// How many poll at once in each process.
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
            let takes = format!("takes {MIN_TOKEN_LEN} or more printable ASCII characters");
            return Err(ConfigError::new("events.token", takes));
        }
        self.sqs.check()
    }
}

impl SqsConfig {
    /// The queue's URL, where it is one.
    pub fn url(&self) -> Option<Url> {
        let text = self.queue_url.as_deref().filter(|text| is_endpoint(text))?;
        Url::parse(text).ok().filter(|url| url.path().len() > 1)
    }

    /// The region that the queue's host tells, as Amazon's do.
    pub fn region_of_host(&self) -> Option<String> {
        let url = self.url()?;
        let host = url.host_str()?;
        let amazons = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
        let region = host.strip_prefix("sqs.").and_then(|rest| rest.split('.').next());
        region.filter(|_| amazons).map(str::to_owned)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let fail = |key: &str, problem: String| {
            Err(ConfigError::new(format!("events.sqs.{key}"), problem))
        };
        if let Some(given) = &self.queue_url
            && self.url().is_none()
        {
            let takes = "takes a queue's URL such as \
                         https://sqs.eu-central-1.amazonaws.com/123456789012/uploads";
            return fail("queue_url", format!("{takes}, not \"{given}\""));
        }
        if let Some(given) = self.endpoint.as_deref().filter(|given| !is_endpoint(given)) {
            let takes = "takes a URL such as https://sqs.example.com";
            return fail("endpoint", format!("{takes}, not \"{given}\""));
        }
        let twin = match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), None) => Some(("secret_access_key", "access_key_id")),
            (None, Some(_)) => Some(("access_key_id", "secret_access_key")),
            _ => None,
        };
        if let Some((missing, there)) = twin {
            let instead = "leave out both to use the standard AWS_* variables";
            return fail(missing, format!("is needed beside {there}; {instead}"));
        }
        if self.session_token.is_some() && self.access_key_id.is_none() {
            let problem = "belongs to an access_key_id, which is missing";
            return fail("session_token", problem.to_owned());
        }
        if !(MIN_WAIT..=MAX_WAIT).contains(&self.wait.get()) {
            return fail("wait", format!("takes \"1s\" to \"20s\", not \"{}\"", self.wait));
        }
        if !VISIBILITY.contains(&self.visibility.get()) {
            let given = self.visibility;
            return fail("visibility", format!("takes \"30s\" to \"12h\", not \"{given}\""));
        }
        if !(1..=MAX_POLLERS).contains(&self.pollers) {
            return fail("pollers", format!("takes 1 to {MAX_POLLERS}, not {}", self.pollers));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amazons_hosts_tell_the_region_and_others_do_not() {
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
