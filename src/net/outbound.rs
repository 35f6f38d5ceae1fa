//! HTTP to hosts of other parties, which the configuration names. Private and loopback addresses
//! are refused unless they are allowed, and redirects are not followed. The check is done after
//! name resolution, so that a public name with a private address is refused too.

use std::net::IpAddr;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::HttpConnectorSettings;
use bytes::Bytes;
use tokio::time::timeout;
use url::{Host, Url};

use super::client::{HttpClient, Response, TLS};
use super::{NetError, Result};
use crate::domain::address::is_public;

/// Time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends requests to public addresses, and to private ones if they are allowed.
#[derive(Debug)]
pub struct OutboundClient {
    http: HttpClient,
    allow_private: bool,
    timeout: Duration,
}

impl OutboundClient {
    /// `timeout` is the time limit for a request and its whole response.
    pub fn new(timeout: Duration, allow_private: bool) -> Self {
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(timeout)
            .build();
        let connector = Connector::builder()
            .connector_settings(settings)
            .tls_provider(TLS)
            .build_with_resolver(Resolver { allow_private });
        Self { http: HttpClient::with_connector(connector), allow_private, timeout }
    }

    /// Posts a body.
    pub async fn post<'a>(
        &self,
        url: &Url,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: Bytes,
    ) -> Result<Response> {
        self.send("POST", url, headers, body).await
    }

    /// Gets a JSON document of up to 64 KiB.
    pub async fn get(&self, url: &Url) -> Result<Response> {
        self.send("GET", url, [("accept", "application/json")], Bytes::new()).await
    }

    /// Gets a document of any media type, of up to 64 KiB.
    pub async fn get_any(&self, url: &Url) -> Result<Response> {
        self.send("GET", url, [("accept", "*/*")], Bytes::new()).await
    }

    /// Sends a HEAD request, to find out whether the host responds. Returns the status.
    pub async fn head(&self, url: &Url) -> Result<u16> {
        Ok(self.send("HEAD", url, [], Bytes::new()).await?.status)
    }

    async fn send<'a>(
        &self,
        method: &str,
        url: &Url,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: Bytes,
    ) -> Result<Response> {
        // The resolver is not called if the URL contains an address instead of a name.
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => None,
        };
        if !self.allow_private && address.is_some_and(|address| !is_public(address)) {
            return Err(NetError::PrivateAddress);
        }
        let sent = self.http.request(method, url.as_str(), headers, body);
        match timeout(self.timeout, sent).await {
            Err(_) => Err(NetError::Timeout(self.timeout)),
            Ok(Err(error)) if is_private_address(&error) => Err(NetError::PrivateAddress),
            Ok(result) => result,
        }
    }
}

/// The error of [`Resolver`] for a name that has only private addresses.
#[derive(Debug, thiserror::Error)]
#[error("the name has only private addresses")]
struct OnlyPrivate;

/// Whether the sources of an error contain the resolver's refusal.
fn is_private_address(error: &NetError) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<OnlyPrivate>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[derive(Debug, Clone)]
struct Resolver {
    allow_private: bool,
}

impl ResolveDns for Resolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        let allowed = |address: &IpAddr| self.allow_private || is_public(*address);
        DnsFuture::new(async move {
            let found = tokio::net::lookup_host((name, 0)).await.map_err(ResolveDnsError::new)?;
            let found: Vec<IpAddr> = found.map(|address| address.ip()).filter(allowed).collect();
            if found.is_empty() { Err(ResolveDnsError::new(OnlyPrivate)) } else { Ok(found) }
        })
    }
}
