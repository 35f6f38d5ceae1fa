//! S3-compatible stores as a kind of store.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::config::SharedHttpClient;

use super::{CorsRule, S3, S3Settings, probe};
use crate::config::{StoreConfig, StoreKind};
use crate::domain::clock::Clock;
use crate::net::HttpClient;
use crate::storage::backend::{Backend, OpenError};
use crate::storage::probe::{BrowserClient, Check, Outcome, ProbeOptions, Report};
use crate::storage::{Capabilities, Result, Store};

/// The time limit of one request of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// A bucket of an S3-compatible store.
struct S3Backend {
    s3: S3,
    store: Store,
    /// Whether the endpoint is Google's.
    google: bool,
}

/// The host of Google Cloud Storage. In virtual-host style, the bucket's name comes before it.
const GOOGLE: &str = "storage.googleapis.com";

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
        (StoreKind::S3, Some(_)) | (StoreKind::Azure, _) => Capabilities::conservative(),
    };
    let s3 = S3::connect(&settings, http).await.map_err(|error| OpenError::Invalid {
        key: format!("storage.{name}.endpoint"),
        source: error.into(),
    })?;
    let store = s3.clone().into_store(name, assumed);
    let host = settings.endpoint.as_ref().and_then(|url| url.host_str());
    let google =
        host.is_some_and(|host| host == GOOGLE || host.ends_with(".storage.googleapis.com"));
    Ok(Box::new(S3Backend { s3, store, google }))
}

#[async_trait]
impl Backend for S3Backend {
    fn store(&self) -> &Store {
        &self.store
    }

    async fn probe(&self, clock: &dyn Clock, options: &ProbeOptions) -> Report {
        let http = HttpClient::new(PROBE_TIMEOUT);
        let mut report = probe::probe(&self.store, &http, clock, options).await;
        if self.google {
            advise_for_google(&mut report);
        }
        report
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
        let mut rules = self.s3.get_cors().await?;
        rules.retain(|rule| *rule != ours);
        rules.insert(0, ours);
        self.s3.put_cors(&rules).await
    }

    fn cors_advice(&self) -> &'static str {
        if self.google {
            return GOOGLE_CORS;
        }
        "This store does not accept CORS rules over S3: allow the origin in the store's own \
        configuration, or in a proxy in front of it."
    }
}

const GOOGLE_CORS: &str = "Google Cloud Storage has CORS rules in a format of its own: put them on the bucket with \
    `gcloud storage buckets update --cors-file`, see docs/stores/gcs.md.";

const GOOGLE_KEY: &str = "The access key must be an HMAC key of a service account that may read and write objects \
    (Storage Object Admin) and read the bucket (Storage Legacy Bucket Reader), see docs/stores/gcs.md.";

/// Replaces advice that does not fit Google Cloud Storage.
fn advise_for_google(report: &mut Report) {
    for check in &mut report.checks {
        let advice = match &*check.name {
            "cors" => GOOGLE_CORS,
            "credentials" => GOOGLE_KEY,
            _ => continue,
        };
        if check.outcome != Outcome::Pass {
            check.mend = Some(advice.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_for_google_is_its_own() {
        let checks = vec![
            Check::warn("cors", "refused", "Run `doctor --fix cors`."),
            Check::fail("credentials", "refused", "Check access_key_id."),
            Check::warn("listing", "out of order", "Nothing."),
            Check::pass("cors", "allowed"),
        ];
        let mut report = Report { capabilities: Capabilities::conservative(), checks };
        advise_for_google(&mut report);
        let advice: Vec<_> = report.checks.iter().map(|check| check.mend.as_deref()).collect();
        assert_eq!(advice, [Some(GOOGLE_CORS), Some(GOOGLE_KEY), Some("Nothing."), None]);
    }
}
