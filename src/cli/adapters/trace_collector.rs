//! Sends traces to the configured collector, with the service's own HTTP client.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;
use url::Url;

use crate::net::OutboundClient;

/// The time limit of one batch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends batches by POST. The exporter calls it from a thread outside of the async runtime.
#[derive(Debug, Clone)]
pub struct Collector {
    client: std::sync::Arc<OutboundClient>,
    runtime: Handle,
}

impl Collector {
    /// Sends within the current runtime.
    pub fn in_current_runtime() -> Self {
        // Private addresses are allowed, because the operator names the address.
        let client = std::sync::Arc::new(OutboundClient::new(TIMEOUT, true));
        Self { client, runtime: Handle::current() }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let (head, body) = request.into_parts();
            let url = Url::parse(&head.uri.to_string())?;
            let headers = head.headers.iter();
            let headers = headers.filter_map(|(n, v)| Some((n.as_str(), v.to_str().ok()?)));
            let response = client.post(&url, headers, body).await?;
            Ok::<_, HttpError>(Response::builder().status(response.status).body(response.body)?)
        });
        sent.await?
    }
}
