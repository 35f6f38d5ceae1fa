//! The settings of an S3-compatible store, and their source in the configuration.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use crate::config::StoreConfig;
use crate::storage::backend::OpenError;

/// The region of stores that do not use regions.
pub const DEFAULT_REGION: &str = "us-east-1";

/// The address and the credentials of a bucket.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// The internal endpoint. `None`: the AWS endpoint of the region.
    pub endpoint: Option<Url>,
    /// The endpoint in signed URLs. `None`: the same as [`Self::endpoint`].
    pub public_endpoint: Option<Url>,
    /// The region in signatures.
    pub region: String,
    /// The bucket's name.
    pub bucket: String,
    /// Whether the bucket is in the path instead of the host.
    pub path_style: bool,
    /// The credentials of all requests.
    pub credentials: S3Credentials,
    /// The time limits.
    pub timeouts: Timeouts,
    /// The largest number of attempts of each call, including the first one. 5xx, throttling and
    /// timeouts are retried after random pauses that grow from 100 ms to 3 s.
    pub max_attempts: u32,
}

impl S3Settings {
    /// A bucket at an endpoint, with defaults for the other settings: path style and three
    /// attempts.
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

/// The source of credentials.
#[derive(Debug, Clone)]
pub enum S3Credentials {
    /// From the configuration.
    Static {
        /// The id of the access key.
        access_key_id: String,
        /// The secret of the access key.
        secret_access_key: SecretString,
        /// Only for temporary credentials.
        session_token: Option<SecretString>,
    },
    /// The AWS SDKs' chain: environment, profile files, web identity (EKS), container and
    /// instance metadata.
    Chain,
}

impl S3Credentials {
    /// A configured access key, or the standard chain of credentials. The configuration is
    /// validated: id and secret are both set or both missing.
    pub fn configured(
        id: Option<&String>,
        secret: Option<&SecretString>,
        session_token: Option<&SecretString>,
    ) -> Self {
        match (id, secret) {
            (Some(id), Some(secret)) => Self::Static {
                access_key_id: id.clone(),
                secret_access_key: secret.clone(),
                session_token: session_token.cloned(),
            },
            _ => Self::Chain,
        }
    }
}

/// Time limits. The defaults suit near and distant stores.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection including TLS. 3 s, because a lost SYN packet is sent again after one
    /// second.
    pub connect: Duration,
    /// For one attempt of a call without a body, until the headers of the response. 20 s, because
    /// the first listing of a large bucket can take seconds.
    pub attempt: Duration,
    /// For all attempts of such a call. 45 s, because proxies often have a limit of one minute.
    pub operation: Duration,
    /// For one attempt of a call that sends an object or a part. 120 s is enough for a part of 16
    /// MiB at 1.2 Mbit/s. Also for a completion, in which a store may copy all parts.
    pub transfer_attempt: Duration,
    /// For all attempts of such a call.
    pub transfer_operation: Duration,
    /// For a body without progress, in both directions.
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

impl S3Settings {
    /// The settings of `storage.<name>`. Without a region, the standard `AWS_*` variables and
    /// profiles are read.
    pub async fn from_config(name: &str, store: &StoreConfig) -> Result<Self, OpenError> {
        let at = |key: &str| format!("storage.{name}.{key}");
        let url = |key: &str, text: Option<&str>| {
            let parsed = text.map(Url::parse).transpose();
            parsed.map_err(|error| OpenError::Invalid { key: at(key), source: error.into() })
        };
        let credentials = S3Credentials::configured(
            store.access_key_id.as_ref(),
            store.secret_access_key.as_ref(),
            store.session_token.as_ref(),
        );
        let region = match &store.region {
            Some(region) => region.clone(),
            None => region_of_environment()
                .await
                .or_else(|| store.endpoint.is_some().then(|| DEFAULT_REGION.to_owned()))
                .ok_or_else(|| OpenError::Missing {
                    key: at("region"),
                    problem: "is missing; set the region of the bucket".to_owned(),
                })?,
        };
        let endpoint = url("endpoint", store.endpoint.as_deref())?;
        Ok(Self {
            public_endpoint: url("public_endpoint", store.public_endpoint())?,
            path_style: store.uses_path_style(),
            timeouts: Timeouts::from_config(store),
            ..Self::new(endpoint, region, store.bucket(name)?, credentials)
        })
    }
}

impl Timeouts {
    /// The limits of the configuration.
    pub(in crate::storage) fn from_config(store: &StoreConfig) -> Self {
        let operation = store.operation_timeout.get();
        let default = Self::default();
        Self {
            connect: store.connect_timeout.get(),
            operation,
            attempt: default.attempt.min(operation),
            ..default
        }
    }
}

/// The region from the standard `AWS_*` variables and profiles.
pub async fn region_of_environment() -> Option<String> {
    use aws_config::environment::EnvironmentVariableRegionProvider;
    use aws_config::meta::region::RegionProviderChain;
    use aws_config::profile::ProfileFileRegionProvider;
    let found = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .region()
        .await;
    found.map(|region| region.as_ref().to_owned())
}
