//! Azure Blob Storage as a kind of store.

use std::time::Duration;

use async_trait::async_trait;

use super::{Azure, AzureSettings, EndpointError};
use crate::config::StoreConfig;
use crate::domain::clock::Clock;
use crate::net::HttpClient;
use crate::storage::backend::{Backend, OpenError};
use crate::storage::probe::{BrowserClient, Check, ProbeOptions, Report};
use crate::storage::s3::{CorsRule, probe};
use crate::storage::{Capabilities, Result, Store};

/// The time limit of one request of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// A container of Azure Blob Storage.
struct AzureBackend {
    azure: Azure,
    store: Store,
}

/// Opens a container of Azure Blob Storage.
pub(in crate::storage) fn open(
    name: &str,
    config: &StoreConfig,
) -> Result<Box<dyn Backend>, OpenError> {
    let settings = AzureSettings::from_config(name, config)?;
    let azure = Azure::connect(&settings).map_err(|error| {
        let key = match error {
            EndpointError::Url => "endpoint",
            EndpointError::Account => "account",
            EndpointError::Container => "bucket",
        };
        OpenError::Invalid { key: format!("storage.{name}.{key}"), source: error.into() }
    })?;
    let store = azure.clone().into_store(name, Capabilities::azure());
    Ok(Box::new(AzureBackend { azure, store }))
}

#[async_trait]
impl Backend for AzureBackend {
    fn store(&self) -> &Store {
        &self.store
    }

    async fn probe(&self, clock: &dyn Clock, options: &ProbeOptions) -> Report {
        let http = HttpClient::new(PROBE_TIMEOUT);
        probe::probe_documented(&self.store, &http, clock, options, Capabilities::azure()).await
    }

    async fn check_cors(&self, clock: &dyn Clock, options: &ProbeOptions) -> Check {
        probe::cors(&self.store, &HttpClient::new(PROBE_TIMEOUT), clock, options).await
    }

    async fn check_client(
        &self,
        clock: &dyn Clock,
        options: &ProbeOptions,
        client: &BrowserClient<'_>,
    ) -> Check {
        let http = HttpClient::new(PROBE_TIMEOUT);
        probe::client_cors(&self.store, &http, clock, options, client).await
    }

    /// Adds a rule for uploads as the first rule, because the first matching rule is used. The
    /// other rules do not change.
    async fn allow_origins(&self, origins: &[String]) -> Result<()> {
        let any = ["*".to_owned()];
        let ours = CorsRule::for_uploads(if origins.is_empty() { &any } else { origins });
        let mut rules = self.azure.get_cors().await?;
        rules.retain(|rule| *rule != ours);
        rules.insert(0, ours);
        self.azure.put_cors(&rules).await
    }

    fn cors_advice(&self) -> &'static str {
        "An account has at most five CORS rules for all its containers: remove one that nobody \
        needs (`az storage cors list --services b`), then run `doctor --fix cors` again."
    }
}
