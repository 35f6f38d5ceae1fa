//! The interface of a kind of store ([`Backend`]): what the start of the service and `doctor` need
//! in addition to [`Store`].
//!
//! To add a kind: a folder that implements [`ObjectStore`](super::ObjectStore),
//! [`Signer`](super::Signer) and [`Backend`], with its settings, probe, error mapping and advice;
//! its name in `config::StoreKind`; and a line in [`open`].

use async_trait::async_trait;
use aws_sdk_s3::config::SharedHttpClient;

use super::probe::{BrowserClient, Check, ProbeOptions, Report};
use super::{Result, Source, Store, azure, s3};
use crate::config::{ConfigError, StoreConfig, StoreKind};
use crate::domain::clock::Clock;

/// A configured bucket, before the first request to it.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The bucket as the service uses it, with the capabilities that are assumed without a probe.
    fn store(&self) -> &Store;

    /// Finds out what the store supports and enforces, by requests to it.
    async fn probe(&self, clock: &dyn Clock, options: &ProbeOptions) -> Report;

    /// Checks whether pages of `options.origins` can upload. [`Self::probe`] includes this check.
    async fn check_cors(&self, clock: &dyn Clock, options: &ProbeOptions) -> Check;

    /// Checks whether the pages of `options.origins` can send a client's requests to the bucket.
    async fn check_client(
        &self,
        clock: &dyn Clock,
        options: &ProbeOptions,
        client: &BrowserClient<'_>,
    ) -> Check;

    /// Configures the bucket so that pages of these origins can upload. If `origins` is empty,
    /// pages of all origins can.
    async fn allow_origins(&self, origins: &[String]) -> Result<()>;

    /// What an operator can do if [`Self::allow_origins`] fails, as a sentence.
    fn cors_advice(&self) -> &'static str;
}

/// Why a store cannot be opened: an invalid or missing setting.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The value of a setting cannot be used.
    #[error("{key}")]
    Invalid {
        /// The configuration key.
        key: String,
        /// The problem.
        #[source]
        source: Source,
    },
    /// A setting is missing.
    #[error("{key}: {problem}")]
    Missing {
        /// The configuration key.
        key: String,
        /// The problem, as a sentence.
        problem: String,
    },
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Opens the store `storage.<name>`. Sends no request to it.
pub async fn open(
    name: &str,
    config: &StoreConfig,
    http: &SharedHttpClient,
) -> Result<Box<dyn Backend>, OpenError> {
    match config.kind {
        StoreKind::S3 | StoreKind::Embedded => s3::open(name, config, http).await,
        StoreKind::Azure => azure::open(name, config),
    }
}
