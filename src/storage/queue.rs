//! The trait for message queues, and its implementation for SQS. Calls have timeouts and are
//! retried with back-off.

use std::time::Duration;

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, MessageSystemAttributeName, QueueAttributeName,
};
use url::Url;

use super::Source;
use super::s3::{S3Credentials, credentials_provider};

/// The largest number of messages in one call (SQS API reference, `ReceiveMessage`).
pub const MAX_BATCH: usize = 10;

/// The longest visibility timeout (SQS API reference, `ChangeMessageVisibility`).
const MAX_HIDDEN: Duration = Duration::from_hours(12);

/// The timeout of a connection, the same as for stores.
const CONNECT: Duration = Duration::from_secs(3);

/// The timeout of one attempt, in addition to the time that the queue waits for a message.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Why a call to the queue failed.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The queue does not exist.
    #[error("the queue does not exist")]
    NoSuchQueue(#[source] Source),
    /// The credentials are wrong or lack a permission.
    #[error("the queue refused access")]
    AccessDenied(#[source] Source),
    /// The queue refused the request as invalid.
    #[error("the queue refused the request ({code})")]
    Refused {
        /// The error code of the queue.
        code: String,
        /// The client library's error.
        #[source]
        source: Source,
    },
    /// The queue is down, slow or throttles requests. A later attempt may succeed.
    #[error("the queue is unavailable")]
    Unavailable(#[source] Source),
}

impl QueueError {
    /// The name in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoSuchQueue(_) => "no_such_queue",
            Self::AccessDenied(_) => "access_denied",
            Self::Refused { .. } => "refused",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// The result of a call to a queue.
pub type Result<T, E = QueueError> = std::result::Result<T, E>;

/// A received message. Other consumers do not get it until its visibility timeout ends.
#[derive(Debug, Clone)]
pub struct Message {
    /// The message id.
    pub id: String,
    /// The receipt handle, with which it is deleted or postponed.
    pub receipt: String,
    /// The content.
    pub body: String,
    /// How often it was received, including this time.
    pub receives: u32,
}

/// The state of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    /// The approximate number of waiting messages.
    pub waiting: u64,
    /// The approximate number of messages that were received and not deleted yet.
    pub in_flight: u64,
    /// Whether messages that are received too often go to a dead-letter queue.
    pub redrives: bool,
}

/// A message queue.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Receives at most [`MAX_BATCH`] messages. Waits a limited time for the first one.
    async fn receive(&self) -> Result<Vec<Message>>;

    /// Deletes at most [`MAX_BATCH`] messages by their receipts. Returns how many were not deleted.
    async fn delete(&self, receipts: &[String]) -> Result<usize>;

    /// Makes a message visible again after a pause.
    async fn postpone(&self, receipt: &str, pause: Duration) -> Result<()>;

    /// The state of the queue.
    async fn state(&self) -> Result<QueueState>;
}

/// How to reach a queue.
#[derive(Debug, Clone)]
pub struct SqsSettings {
    /// The queue's URL.
    pub queue_url: Url,
    /// The endpoint, if it is not the host of the URL.
    pub endpoint: Option<Url>,
    /// The region in signatures.
    pub region: String,
    /// The credentials that sign requests.
    pub credentials: S3Credentials,
    /// How long a call waits for the first message; 20 s at most.
    pub wait: Duration,
    /// The visibility timeout: how long other consumers do not get a received message.
    pub visibility: Duration,
}

/// An SQS queue.
#[derive(Debug, Clone)]
pub struct Sqs {
    client: Client,
    url: String,
    wait: i32,
    visibility: i32,
}

impl Sqs {
    /// A client of the queue. It sends no request, except those of the credential chain.
    pub async fn connect(settings: &SqsSettings, http: &SharedHttpClient) -> Self {
        let SqsSettings { queue_url, endpoint, region, credentials, wait, visibility } = settings;
        let attempt = *wait + ATTEMPT;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .read_timeout(attempt)
            .operation_attempt_timeout(attempt)
            .operation_timeout(attempt * 2)
            .build();
        let retries = RetryConfig::standard()
            .with_initial_backoff(Duration::from_millis(200))
            .with_max_backoff(Duration::from_secs(3));
        let host = endpoint.as_ref().unwrap_or(queue_url).origin().ascii_serialization();
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .credentials_provider(credentials_provider(credentials, region, http).await)
            .http_client(http.clone())
            .timeout_config(timeouts)
            .retry_config(retries)
            .endpoint_url(host)
            .build();
        Self {
            client: Client::from_conf(config),
            url: queue_url.to_string(),
            wait: seconds(*wait),
            visibility: seconds(*visibility),
        }
    }
}

#[async_trait]
impl Queue for Sqs {
    async fn receive(&self) -> Result<Vec<Message>> {
        let received = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(MAX_BATCH).unwrap_or(10))
            .wait_time_seconds(self.wait)
            .visibility_timeout(self.visibility)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .send()
            .await
            .map_err(queue_error)?;
        let messages = received.messages.unwrap_or_default().into_iter();
        let read = messages.filter_map(|message| {
            let count = message
                .attributes
                .as_ref()
                .and_then(|map| map.get(&MessageSystemAttributeName::ApproximateReceiveCount))
                .and_then(|text| text.parse().ok());
            Some(Message {
                id: message.message_id.unwrap_or_default(),
                receipt: message.receipt_handle?,
                body: message.body.unwrap_or_default(),
                receives: count.unwrap_or(1),
            })
        });
        Ok(read.collect())
    }

    async fn delete(&self, receipts: &[String]) -> Result<usize> {
        let mut failed = 0;
        for batch in receipts.chunks(MAX_BATCH) {
            let entries = batch.iter().enumerate().map(|(n, receipt)| {
                DeleteMessageBatchRequestEntry::builder()
                    .id(n.to_string())
                    .receipt_handle(receipt)
                    .build()
                    .map_err(|error| QueueError::Refused {
                        code: "InvalidRequest".to_owned(),
                        source: Box::new(error),
                    })
            });
            let request = self.client.delete_message_batch().queue_url(&self.url);
            let request = request.set_entries(Some(entries.collect::<Result<_>>()?));
            failed += request.send().await.map_err(queue_error)?.failed.len();
        }
        Ok(failed)
    }

    async fn postpone(&self, receipt: &str, pause: Duration) -> Result<()> {
        let request = self.client.change_message_visibility().queue_url(&self.url);
        let request = request.receipt_handle(receipt);
        let request = request.visibility_timeout(seconds(pause.min(MAX_HIDDEN)));
        request.send().await.map(drop).map_err(queue_error)
    }

    async fn state(&self) -> Result<QueueState> {
        use QueueAttributeName as Name;
        let names = [
            Name::ApproximateNumberOfMessages,
            Name::ApproximateNumberOfMessagesNotVisible,
            Name::RedrivePolicy,
        ];
        let request = self.client.get_queue_attributes().queue_url(&self.url);
        let request = request.set_attribute_names(Some(names.to_vec()));
        let reported = request.send().await.map_err(queue_error)?.attributes.unwrap_or_default();
        let count = |name| reported.get(&name).and_then(|n| n.parse().ok()).unwrap_or_default();
        Ok(QueueState {
            waiting: count(Name::ApproximateNumberOfMessages),
            in_flight: count(Name::ApproximateNumberOfMessagesNotVisible),
            redrives: reported.get(&Name::RedrivePolicy).is_some_and(|policy| !policy.is_empty()),
        })
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

fn queue_error<E>(error: SdkError<E, HttpResponse>) -> QueueError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().map(str::to_owned);
    match (&error, status) {
        (SdkError::ServiceError(_) | SdkError::ResponseError(_), Some(status)) => {
            by_code(status, code, Box::new(error))
        }
        _ if super::s3::lacks_credentials(&error) => QueueError::AccessDenied(Box::new(error)),
        _ => QueueError::Unavailable(Box::new(error)),
    }
}

fn by_code(status: u16, code: Option<String>, source: Source) -> QueueError {
    let name = code.as_deref().unwrap_or_default();
    let name = name.rsplit(['.', '#']).next().unwrap_or_default();
    match (name, status) {
        ("NonExistentQueue" | "QueueDoesNotExist" | "QueueDeletedRecently", _) => {
            QueueError::NoSuchQueue(source)
        }
        (
            "AccessDenied"
            | "AccessDeniedException"
            | "AuthFailure"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "IncompleteSignature"
            | "InvalidClientTokenId"
            | "InvalidSecurity"
            | "KmsAccessDenied"
            | "MissingAuthenticationToken"
            | "SignatureDoesNotMatch"
            | "UnrecognizedClientException",
            _,
        )
        | (_, 401 | 403) => QueueError::AccessDenied(source),
        ("RequestThrottled" | "Throttling" | "ThrottlingException" | "OverLimit", _)
        | (_, 408 | 429 | 500..=599) => QueueError::Unavailable(source),
        _ => QueueError::Refused { code: code.unwrap_or(format!("HTTP {status}")), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_response_of_a_queue_has_its_kind() {
        for (status, code, kind) in [
            (400, Some("AWS.SimpleQueueService.NonExistentQueue"), "no_such_queue"),
            (400, Some("com.amazonaws.sqs#QueueDoesNotExist"), "no_such_queue"),
            (403, None, "access_denied"),
            (400, Some("InvalidClientTokenId"), "access_denied"),
            (400, Some("RequestThrottled"), "unavailable"),
            (503, None, "unavailable"),
            (400, Some("ReceiptHandleIsInvalid"), "refused"),
            (404, None, "refused"),
        ] {
            let error = by_code(status, code.map(str::to_owned), "source".into());
            assert_eq!(error.kind(), kind, "{status} {code:?}");
        }
    }
}
