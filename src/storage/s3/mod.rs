//! A bucket of any S3-compatible store, with aws-sdk-s3.
//!
//! The SDK's optional checksums are off (`WHEN_REQUIRED`): many stores do not support the trailers
//! that contain them, and this module sends and checks the checksums that matter.

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
use secrecy::ExposeSecret as _;

use super::{Capabilities, Store};

mod backend;
pub(super) mod clock;
mod conversions;
mod copies;
mod cors;
mod errors;
mod multipart;
mod object_headers;
mod objects;
mod presign;
pub mod probe;
mod settings;
mod versions;

pub(super) use backend::open;
use clock::ClockOffset;
pub use cors::CorsRule;
pub(super) use errors::{connection_cause, lacks_credentials};
pub use presign::{Presigner, Target, TargetError};
pub use settings::{DEFAULT_REGION, S3Credentials, S3Settings, Timeouts, region_of_environment};

/// A bucket of an S3-compatible store. Clones share its connections.
#[derive(Debug, Clone)]
pub struct S3 {
    client: Client,
    bucket: String,
    region: String,
    credentials: SharedCredentialsProvider,
    /// The server and the account, see [`super::ObjectStore::copy_domain`].
    copy_domain: String,
    /// The host and the path of signed requests.
    public: Target,
    /// The difference between the store's clock and this machine's.
    clock_offset: ClockOffset,
    /// The time limits of calls with bodies, instead of the client's own.
    transfer_timeouts: TimeoutConfig,
}

impl S3 {
    /// Opens the bucket. Sends no request, except those of the credential chain. `http` comes from
    /// [`crate::net::http_client`] and is shared by all stores.
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
        // Both endpoints are checked: with a path in the internal endpoint, signatures would be
        // wrong too.
        Target::new(endpoint.as_ref(), region, bucket, *path_style)?;
        let public = Target::new(
            public_endpoint.as_ref().or(endpoint.as_ref()),
            region,
            bucket,
            *path_style,
        )?;
        let copy_domain = copies::domain_of(settings);
        let credentials = credentials_provider(credentials, region, http).await;
        let stalled =
            StalledStreamProtectionConfig::enabled().grace_period(timeouts.stalled).build();
        let retries = RetryConfig::standard()
            .with_max_attempts(*max_attempts)
            .with_initial_backoff(Duration::from_millis(100))
            .with_max_backoff(Duration::from_secs(3));
        let clock_offset = ClockOffset::default();
        let mut config = aws_sdk_s3::Config::builder()
            .interceptor(clock_offset.clone())
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
            copy_domain,
            public,
            clock_offset,
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

    /// The SDK's client, for calls that [`ObjectStore`] does not have.
    pub fn sdk(&self) -> &Client {
        &self.client
    }

    fn for_transfers(&self) -> aws_sdk_s3::config::Builder {
        aws_sdk_s3::Config::builder().timeout_config(self.transfer_timeouts.clone())
    }
}

/// The SDK's read timeout covers sending the body and waiting for the headers of the response, so
/// it limits an attempt.
fn limits(connect: Duration, attempt: Duration, operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(connect)
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .operation_timeout(operation)
        .build()
}

/// The source of the credentials of requests.
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
