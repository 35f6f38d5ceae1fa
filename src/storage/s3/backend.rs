//! S3-compatible stores as a kind of store.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::config::SharedHttpClient;

use super::{CorsRule, S3, S3Settings, probe};
use crate::config::{StoreConfig, StoreKind};
use crate::domain::clock::Clock;
use crate::net::HttpClient;
use crate::storage::backend::{Backend, OpenError};
use crate::storage::probe::{BrowserClient, Check, ProbeOptions, Report};
use crate::storage::{Capabilities, Result, Store};

/// The time limit of one request of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// A bucket of an S3-compatible store.
struct S3Backend {
    s3: S3,
    store: Store,
}

/// Opens a bucket of an S3-compatible store.
pub(in crate::storage) async fn open(
    name: &str,
    config: &StoreConfig,
    http: &SharedHttpClient,
) -> Result<Box<dyn Backend>, OpenError> {
    let settings = S3Settings::from_config(name, config).await?;
    let assumed = match (config.kind, &settings.endpoint) {
        // The embedded server supports everything that AWS supports, except event notifications.
        (StoreKind::Embedded, _) => {
            Capabilities { notifications: Some(false), sse: false, ..Capabilities::aws() }
        }
        (StoreKind::S3, None) => Capabilities::aws(),
        (StoreKind::S3, Some(_)) => Capabilities::conservative(),
    };
    let s3 = S3::connect(&settings, http).await.map_err(|error| OpenError::Invalid {
        key: format!("storage.{name}.endpoint"),
        source: error.into(),
    })?;
    let store = s3.clone().into_store(name, assumed);
    Ok(Box::new(S3Backend { s3, store }))
}

#[async_trait]
impl Backend for S3Backend {
    fn store(&self) -> &Store {
        &self.store
    }

    async fn probe(&self, clock: &dyn Clock, options: &ProbeOptions) -> Report {
        probe::probe(&self.store, &HttpClient::new(PROBE_TIMEOUT), clock, options).await
    }

    async fn check_cors(&self, clock: &dyn Clock, options: &ProbeOptions) -> Check {
        probe::cors(&self.store, &HttpClient::new(PROBE_TIMEOUT), clock, options).await
    }

    async fn check_client(
        &self,
        clock: &dyn Clock,
        options: &ProbeOptions,
        client: &BrowserClient,
    ) -> Check {
        let http = HttpClient::new(PROBE_TIMEOUT);
        probe::client_cors(&self.store, &http, clock, options, client).await
    }

    /// Adds a rule for uploads as the first rule, because the first matching rule is used. The
    /// other rules do not change.
    async fn allow_origins(&self, origins: &[String]) -> Result<()> {
        let any = ["*".to_owned()];
        let ours = CorsRule::for_uploads(if origins.is_empty() { &any } else { origins });
        let mut rules = self.s3.get_cors().await?;
        rules.retain(|rule| *rule != ours);
        rules.insert(0, ours);
        self.s3.put_cors(&rules).await
    }

    fn cors_advice(&self) -> &'static str {
        "This store does not accept CORS rules over S3: allow the origin in the store's own \
        configuration, or in a proxy in front of it."
    }
}
