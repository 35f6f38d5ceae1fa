//! Messages of Amazon SNS: verifies their signatures, and confirms subscriptions to the topics of
//! the configuration.
//!
//! The certificate with the public key is trusted because it is fetched from an address of SNS by
//! HTTPS. Its certificate chain is not checked; Amazon's libraries do not check it either.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RsaParameters,
    UnparsedPublicKey,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::ParsedCertificate;
use spki::SubjectPublicKeyInfoRef;
use url::Url;

use crate::domain::sns::{SignatureVersion, SnsKind, SnsMessage};
use crate::net::{NetError, OutboundClient, Response};

/// The time limit of a request to SNS. SNS waits 15 s for the response to its message.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How many public keys are cached. Each region has one, and a new one about once a year.
const MAX_KEYS: usize = 16;

/// The object identifier of RSA keys, `rsaEncryption`.
const RSA: spki::ObjectIdentifier = spki::ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a message is refused.
#[derive(Debug, thiserror::Error)]
pub enum SnsError {
    /// The signature or the certificate is wrong.
    #[error("{0}")]
    Untrusted(&'static str),
    /// SNS does not respond, or responds with an error. The message should be sent again.
    #[error("SNS is not available")]
    Unavailable(#[source] Source),
}

/// Sends the requests to SNS. Tests replace it.
#[async_trait]
pub trait SnsClient: Send + Sync {
    /// Fetches a document from a URL of SNS.
    async fn get(&self, url: &Url) -> Result<Response, NetError>;
}

#[async_trait]
impl SnsClient for OutboundClient {
    async fn get(&self, url: &Url) -> Result<Response, NetError> {
        self.get_any(url).await
    }
}

/// Verifies messages, and confirms subscriptions to some topics.
pub struct Sns {
    client: Arc<dyn SnsClient>,
    topics: BTreeSet<String>,
    /// The cached keys, the newest last.
    keys: Mutex<VecDeque<(Url, Bytes)>>,
}

impl Sns {
    /// Confirms subscriptions to these topics, which are ARNs.
    pub fn new(topics: impl IntoIterator<Item = String>) -> Self {
        Self::with_client(topics, Arc::new(OutboundClient::new(TIMEOUT, false)))
    }

    /// As [`Sns::new`], with requests to SNS by this client.
    pub fn with_client(
        topics: impl IntoIterator<Item = String>,
        client: Arc<dyn SnsClient>,
    ) -> Self {
        Self { client, topics: topics.into_iter().collect(), keys: Mutex::default() }
    }

    /// Processes a message after its signature is verified. Returns the published text, or `None`
    /// if the message is about the subscription itself.
    ///
    /// # Errors
    /// The message is not from SNS, or SNS does not respond.
    pub async fn receive(&self, message: SnsMessage) -> Result<Option<String>, SnsError> {
        self.verify(&message).await?;
        let topic = message.topic_arn.as_str();
        match message.kind {
            SnsKind::Notification => return Ok(Some(message.message)),
            SnsKind::SubscriptionConfirmation if self.topics.contains(topic) => {
                self.confirm(&message).await?;
                tracing::info!(topic, "subscription to an SNS topic confirmed");
            }
            SnsKind::SubscriptionConfirmation => tracing::warn!(
                topic,
                "subscription to an SNS topic not confirmed; if you want its events, add the topic \
                 to events.sns.topics and request the confirmation again"
            ),
            SnsKind::UnsubscribeConfirmation => {
                tracing::warn!(topic, "the subscription to an SNS topic was deleted");
            }
        }
        Ok(None)
    }

    async fn confirm(&self, message: &SnsMessage) -> Result<(), SnsError> {
        let url = message.subscribe_url();
        let url = url.ok_or(SnsError::Untrusted("SubscribeURL is not an address of SNS"))?;
        self.get(&url).await.map(drop)
    }

    async fn verify(&self, message: &SnsMessage) -> Result<(), SnsError> {
        let wrong = || SnsError::Untrusted("The signature of the SNS message is wrong");
        let url = message.certificate_url();
        let url = url.ok_or(SnsError::Untrusted("SigningCertURL is not an address of SNS"))?;
        let signature = STANDARD.decode(&message.signature).map_err(|_| wrong())?;
        let algorithm: &'static RsaParameters = match message.signature_version {
            SignatureVersion::Sha1 => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            SignatureVersion::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        };
        let key = UnparsedPublicKey::new(algorithm, self.key(&url).await?);
        key.verify(message.signed_text().as_bytes(), &signature).map_err(|_| wrong())
    }

    /// The public key in a certificate of SNS.
    async fn key(&self, url: &Url) -> Result<Bytes, SnsError> {
        let cached = |(of, key): &(Url, Bytes)| (of == url).then(|| key.clone());
        if let Some(key) = self.keys().iter().find_map(cached) {
            return Ok(key);
        }
        let response = self.get(url).await?;
        let key = public_key(&response.body)
            .ok_or(SnsError::Untrusted("The certificate of the SNS message is unusable"))?;
        let mut keys = self.keys();
        if keys.len() >= MAX_KEYS {
            keys.pop_front();
        }
        keys.push_back((url.clone(), key.clone()));
        Ok(key)
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, VecDeque<(Url, Bytes)>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn get(&self, url: &Url) -> Result<Response, SnsError> {
        let response = self.client.get(url).await.map_err(|e| SnsError::Unavailable(e.into()))?;
        if response.is_success() {
            return Ok(response);
        }
        // Without the query, which contains the token of a subscription.
        let host = url.host_str().unwrap_or_default();
        let status = response.status;
        Err(SnsError::Unavailable(format!("{host} responded with the status {status}").into()))
    }
}

/// The RSA public key in a PEM certificate, as PKCS #1.
fn public_key(pem: &[u8]) -> Option<Bytes> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    let info = ParsedCertificate::try_from(&certificate).ok()?.subject_public_key_info();
    let info = SubjectPublicKeyInfoRef::try_from(info.as_ref()).ok()?;
    (info.algorithm.oid == RSA).then(|| Bytes::copy_from_slice(info.subject_public_key.raw_bytes()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const CERTIFICATE: &[u8] = include_bytes!("../tests/http/keys/sns.pem");

    /// Responds to each request with this status and body.
    struct Fixed {
        status: u16,
        body: &'static [u8],
        requests: AtomicUsize,
    }

    #[async_trait]
    impl SnsClient for Fixed {
        async fn get(&self, _url: &Url) -> Result<Response, NetError> {
            self.requests.fetch_add(1, Ordering::SeqCst);
            let headers = std::collections::BTreeMap::new();
            Ok(Response { status: self.status, headers, body: Bytes::from_static(self.body) })
        }
    }

    fn sns(status: u16, body: &'static [u8]) -> (Sns, Arc<Fixed>) {
        let client = Arc::new(Fixed { status, body, requests: AtomicUsize::new(0) });
        (Sns::with_client([], client.clone()), client)
    }

    /// Messages that openssl signed.
    fn messages() -> Vec<Value> {
        serde_json::from_str(include_str!("../tests/http/keys/sns-messages.json")).unwrap()
    }

    fn parse(message: &Value) -> SnsMessage {
        serde_json::from_value(message.clone()).unwrap()
    }

    #[tokio::test]
    async fn messages_of_each_kind_and_version_are_verified_by_one_request_for_the_key() {
        let (sns, client) = sns(200, CERTIFICATE);
        let messages = messages();
        assert_eq!(messages.len(), 8);
        for message in &messages {
            let verified = sns.verify(&parse(message)).await;
            assert!(verified.is_ok(), "{message}: {verified:?}");
        }
        assert_eq!(client.requests.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn every_signed_field_is_protected() {
        let (sns, _) = sns(200, CERTIFICATE);
        for message in messages() {
            for name in [
                "Message",
                "MessageId",
                "Subject",
                "SubscribeURL",
                "Timestamp",
                "Token",
                "TopicArn",
                "Signature",
            ] {
                let Some(value) = message[name].as_str() else { continue };
                let mut changed = message.clone();
                changed[name] = format!("{value}x").into();
                let refused = sns.verify(&parse(&changed)).await;
                assert!(matches!(refused, Err(SnsError::Untrusted(_))), "{name}: {refused:?}");
            }
            let mut swapped = message.clone();
            let other = if message["SignatureVersion"] == "1" { "2" } else { "1" };
            swapped["SignatureVersion"] = other.into();
            assert!(sns.verify(&parse(&swapped)).await.is_err());
        }
    }

    #[tokio::test]
    async fn no_certificate_is_fetched_from_a_foreign_address() {
        let (sns, client) = sns(200, CERTIFICATE);
        let mut message = messages().remove(0);
        message["SigningCertURL"] = "https://sns.s3-us-west-2.amazonaws.com/mine.pem".into();
        assert!(matches!(sns.verify(&parse(&message)).await, Err(SnsError::Untrusted(_))));
        assert_eq!(client.requests.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_failure_of_sns_is_not_a_wrong_signature_and_is_not_cached() {
        let message = parse(&messages()[0]);
        let (down, client) = sns(503, CERTIFICATE);
        for _ in 0..2 {
            assert!(matches!(down.verify(&message).await, Err(SnsError::Unavailable(_))));
        }
        assert_eq!(client.requests.load(Ordering::SeqCst), 2);
        let (garbage, _) = sns(200, b"no certificate");
        assert!(matches!(garbage.verify(&message).await, Err(SnsError::Untrusted(_))));
    }

    #[tokio::test]
    async fn the_number_of_cached_keys_is_bounded() {
        let (sns, client) = sns(200, CERTIFICATE);
        let mut message = messages().remove(0);
        for n in 0..3 * MAX_KEYS {
            message["SigningCertURL"] =
                format!("https://sns.us-east-1.amazonaws.com/{n}.pem").into();
            assert!(sns.verify(&parse(&message)).await.is_ok());
        }
        assert_eq!(client.requests.load(Ordering::SeqCst), 3 * MAX_KEYS);
        assert_eq!(sns.keys().len(), MAX_KEYS);
    }

    proptest! {
        #[test]
        fn a_damaged_certificate_never_panics(
            at in 0..CERTIFICATE.len(), byte in any::<u8>(),
        ) {
            let mut damaged = CERTIFICATE.to_vec();
            damaged[at] = byte;
            let _ = public_key(&damaged);
        }
    }
}
