//! How traces get to their collector: by the HTTP client that is in the binary anyway.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;
use url::Url;

use crate::net::OutboundClient;

/// For one batch and its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Posts batches from outside of the runtime, where the exporter lives.
#[derive(Debug, Clone)]
pub struct Collector {
    client: std::sync::Arc<OutboundClient>,
    runtime: Handle,
}

impl Collector {
    /// Within the runtime that is to do the work.
    pub(super) fn new() -> Self {
        // The operator names the address, so a private one is what is meant.
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
            let answer = client.post(&url, headers, body).await?;
            Ok::<_, HttpError>(Response::builder().status(answer.status).body(answer.body)?)
        });
        sent.await?
    }
}
