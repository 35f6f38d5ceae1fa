//! A bucket of any S3-compatible store, by aws-sdk-s3.
//!
//! The SDK's optional checksums are off (`WHEN_REQUIRED`): many stores don't know the
//! trailers that carry them, and what matters is declared and checked by ourselves.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{Capabilities, Store};

mod cors;
mod errors;
mod multipart;
mod objects;
mod presign;
pub mod probe;

pub use cors::CorsRule;
pub(super) use errors::lacks_credentials;
pub use presign::{Presigner, Target, TargetError};

/// How to reach a bucket.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// Where the service itself talks to; `None` is AWS's own of the region.
    pub endpoint: Option<Url>,
    /// The host in signed URLs, where clients reach the store by another name; `None` is
    /// [`Self::endpoint`].
    pub public_endpoint: Option<Url>,
    /// As signatures name it.
    pub region: String,
    /// The bucket's name.
    pub bucket: String,
    /// The bucket in the path, not in the host.
    pub path_style: bool,
    /// Whom the requests are from.
    pub credentials: S3Credentials,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// Of each call, the first included; further ones follow 5xx, throttling and timeouts
    /// with random pauses that grow from 100 ms to 3 s.
    pub max_attempts: u32,
}

impl S3Settings {
    /// A bucket at an endpoint, all else by default: path style, the standard credentials,
    /// three attempts.
    pub fn new(
        endpoint: Option<Url>,
        region: impl Into<String>,
        bucket: impl Into<String>,
        credentials: S3Credentials,
    ) -> Self {
        Self {
            path_style: endpoint.is_some(),
            endpoint,
            public_endpoint: None,
            region: region.into(),
            bucket: bucket.into(),
            credentials,
            timeouts: Timeouts::default(),
            max_attempts: 3,
        }
    }
}

/// Where credentials come from.
#[derive(Debug, Clone)]
pub enum S3Credentials {
    /// From the configuration.
    Static {
        /// The key's public name.
        access_key_id: String,
        /// The key.
        secret_access_key: SecretString,
        /// Of temporary credentials.
        session_token: Option<SecretString>,
    },
    /// The AWS SDKs' chain: environment, profile files, web identity (EKS), container and
    /// instance metadata.
    Chain,
}

/// How long to wait for what. The defaults let a LAN store fail fast and a far one work.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, TLS included. 3 s: one lost SYN is sent again after one second.
    pub connect: Duration,
    /// For one attempt of a call without a body, up to the answer's headers. 20 s: a cold
    /// listing of a big bucket takes seconds.
    pub attempt: Duration,
    /// For such a call with all its attempts. 45 s: under the minute that proxies give.
    pub operation: Duration,
    /// For one attempt of a call that carries an object or a part. 120 s: a part of 16 MiB
    /// at 1.2 Mbit/s. Also of a completion, in which a store may copy all parts.
    pub transfer_attempt: Duration,
    /// For such a call with all its attempts.
    pub transfer_operation: Duration,
    /// A body that stands still for so long is given up, in both directions.
    pub stalled: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            attempt: Duration::from_secs(20),
            operation: Duration::from_secs(45),
            transfer_attempt: Duration::from_mins(2),
            transfer_operation: Duration::from_mins(5),
            stalled: Duration::from_secs(20),
        }
    }
}

/// A bucket of an S3-compatible store. A clone is another handle to the same connections.
#[derive(Debug, Clone)]
pub struct S3 {
    client: Client,
    bucket: String,
    region: String,
    credentials: SharedCredentialsProvider,
    /// Where signed requests go.
    public: Target,
    /// For the calls that carry bodies, instead of the client's own.
    transfer_timeouts: TimeoutConfig,
}

impl S3 {
    /// A handle to the bucket; nothing is sent yet but what the credential chain asks for.
    /// `http` comes from [`crate::net::http_client`] and is shared by all stores.
    pub async fn connect(
        settings: &S3Settings,
        http: &SharedHttpClient,
    ) -> Result<Self, TargetError> {
        let S3Settings {
            endpoint,
            public_endpoint,
            region,
            bucket,
            path_style,
            credentials,
            timeouts,
            max_attempts,
        } = settings;
        // Checked for both: a path in the internal endpoint would be signed wrong as well.
        Target::new(endpoint.as_ref(), region, bucket, *path_style)?;
        let public = Target::new(
            public_endpoint.as_ref().or(endpoint.as_ref()),
            region,
            bucket,
            *path_style,
        )?;
        let credentials = credentials_provider(credentials, region, http).await;
        let stalled =
            StalledStreamProtectionConfig::enabled().grace_period(timeouts.stalled).build();
        let retries = RetryConfig::standard()
            .with_max_attempts(*max_attempts)
            .with_initial_backoff(Duration::from_millis(100))
            .with_max_backoff(Duration::from_secs(3));
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .credentials_provider(credentials.clone())
            .http_client(http.clone())
            .force_path_style(*path_style)
            .timeout_config(limits(timeouts.connect, timeouts.attempt, timeouts.operation))
            .retry_config(retries)
            .stalled_stream_protection(stalled)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint.as_str().trim_end_matches('/'));
        }
        Ok(Self {
            client: Client::from_conf(config.build()),
            bucket: bucket.clone(),
            region: region.clone(),
            credentials,
            public,
            transfer_timeouts: limits(
                timeouts.connect,
                timeouts.transfer_attempt,
                timeouts.transfer_operation,
            ),
        })
    }

    /// A signer for the bucket's public endpoint, with the same credentials.
    pub fn presigner(&self) -> Presigner {
        Presigner::new(self.public.clone(), self.credentials.clone())
    }

    /// This bucket as a store of the service.
    pub fn into_store(self, name: impl Into<String>, capabilities: Capabilities) -> Store {
        Store {
            name: name.into(),
            bucket: self.bucket.clone(),
            signer: std::sync::Arc::new(self.presigner()),
            capabilities: capabilities.into(),
            objects: std::sync::Arc::new(self),
        }
    }

    /// The SDK's client, for what the seam has no call for.
    pub fn sdk(&self) -> &Client {
        &self.client
    }

    fn for_transfers(&self) -> aws_sdk_s3::config::Builder {
        aws_sdk_s3::Config::builder().timeout_config(self.transfer_timeouts.clone())
    }
}

/// The client's read timeout runs until the answer's headers, the sending of the body
/// included: that is what bounds an attempt.
fn limits(connect: Duration, attempt: Duration, operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(connect)
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .operation_timeout(operation)
        .build()
}

/// Where requests get their credentials from.
pub(super) async fn credentials_provider(
    credentials: &S3Credentials,
    region: &str,
    http: &SharedHttpClient,
) -> SharedCredentialsProvider {
    match credentials {
        S3Credentials::Static { access_key_id, secret_access_key, session_token } => {
            SharedCredentialsProvider::new(Credentials::new(
                access_key_id,
                secret_access_key.expose_secret(),
                session_token.as_ref().map(|token| token.expose_secret().to_owned()),
                None,
                "configuration",
            ))
        }
        S3Credentials::Chain => {
            let chain =
                aws_config::default_provider::credentials::DefaultCredentialsChain::builder()
                    .region(Region::new(region.to_owned()))
                    .configure(
                        aws_config::provider_config::ProviderConfig::without_region()
                            .with_region(Some(Region::new(region.to_owned())))
                            .with_http_client(http.clone()),
                    );
            SharedCredentialsProvider::new(chain.build().await)
        }
    }
}
