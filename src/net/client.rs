//! An HTTP client that does not check addresses, and the HTTP client that the AWS SDK's clients
//! share.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{
    HttpConnector as _, HttpConnectorSettings, SharedHttpClient,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use bytes::Bytes;

use super::{NetError, Result, Source};

/// Idle time after which a connection is closed. Many servers close idle connections after 20 to 75
/// s. Closing them earlier here avoids sending a request on a connection that the server closes at
/// the same time.
const IDLE: Duration = Duration::from_secs(15);

/// Time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Response bodies are truncated after this many bytes. JWK sets and error pages are shorter.
const MAX_BODY: usize = 64 * 1024;

pub(super) const TLS: Provider = Provider::Rustls(CryptoMode::Ring);

/// The HTTP client that all AWS SDK clients share: rustls with the system's root
/// certificates, and one pool of connections.
pub fn http_client() -> SharedHttpClient {
    Builder::new().pool_idle_timeout(IDLE).tls_provider(TLS).build_https()
}

/// Sends requests to any address.
#[derive(Debug)]
pub struct HttpClient(Connector);

/// A response.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Names are in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, cut after 64 KiB or after the limit of [`Streamed::read`].
    pub body: Bytes,
}

impl Response {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the status is 4xx: the server works, but refused the request.
    pub fn is_refusal(&self) -> bool {
        (400..500).contains(&self.status)
    }
}

/// A response whose body is read in pieces.
#[derive(Debug)]
pub struct Streamed {
    /// The HTTP status.
    pub status: u16,
    /// Names are in lower case.
    pub headers: BTreeMap<String, String>,
    body: ByteStream,
}

impl Streamed {
    /// The next piece of the body; `None` at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        self.body.try_next().await.map_err(failed)
    }

    /// The whole response. The body is cut after `limit` bytes.
    pub async fn read(mut self, limit: usize) -> Result<Response> {
        let mut body = Vec::new();
        while body.len() < limit {
            let Some(chunk) = self.next().await? else { break };
            body.extend_from_slice(&chunk);
        }
        body.truncate(limit);
        Ok(Response { status: self.status, headers: self.headers, body: body.into() })
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new(Duration::from_secs(20))
    }
}

impl HttpClient {
    /// `timeout` is the time limit from the start of a request to the headers of its response.
    pub fn new(timeout: Duration) -> Self {
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(timeout)
            .build();
        let connector = Connector::builder().connector_settings(settings);
        Self(connector.tls_provider(TLS).build())
    }

    /// For many requests to one server: idle connections are closed before the server closes them.
    /// `timeout` as in [`Self::new`].
    pub fn pooled(connect_timeout: Duration, timeout: Duration) -> Self {
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(connect_timeout)
            .read_timeout(timeout)
            .build();
        let connector = Connector::builder().connector_settings(settings).pool_idle_timeout(IDLE);
        Self(connector.tls_provider(TLS).build())
    }

    pub(super) fn with_connector(connector: Connector) -> Self {
        Self(connector)
    }

    /// Sends a request. Host and content-length are set from the URL and the body.
    pub async fn request<'a>(
        &self,
        method: &str,
        url: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: Bytes,
    ) -> Result<Response> {
        self.stream(method, url, headers, body).await?.read(MAX_BODY).await
    }

    /// Sends a request, and returns when the headers of the response have arrived.
    pub async fn stream<'a>(
        &self,
        method: &str,
        url: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: Bytes,
    ) -> Result<Streamed> {
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(SdkBody::from(body)).map_err(malformed)?;
        let request = HttpRequest::try_from(request).map_err(malformed)?;
        let response = self.0.call(request).await.map_err(failed)?;
        let headers = response.headers().iter();
        let headers = headers.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
        let status = response.status().as_u16();
        Ok(Streamed { status, headers, body: ByteStream::new(response.into_body()) })
    }
}

fn failed(error: impl Into<Source>) -> NetError {
    NetError::Connection(error.into())
}

fn malformed(error: impl Into<Source>) -> NetError {
    NetError::Malformed(error.into())
}
