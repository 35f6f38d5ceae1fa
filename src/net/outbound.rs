//! HTTP to addresses that the configuration names and others own. Private and loopback
//! addresses are refused unless they are allowed, and no redirect is followed. The check is
//! made after name resolution, so that a public name with a private address is refused too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::HttpConnectorSettings;
use bytes::Bytes;
use tokio::time::timeout;
use url::{Host, Url};

use super::client::{HttpClient, Response, TLS};
use super::{NetError, Result};

/// Time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends requests to addresses that pass the guard.
#[derive(Debug)]
pub struct OutboundClient {
    http: HttpClient,
    allow_private: bool,
    timeout: Duration,
}

impl OutboundClient {
    /// `timeout` is for a request and its whole response.
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

    async fn send<'a>(
        &self,
        method: &str,
        url: &Url,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: Bytes,
    ) -> Result<Response> {
        // The resolver is not called for a literal address.
        if !self.allow_private && literal(url).is_some_and(|address| !is_public(address)) {
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

/// The address in a URL whose host is an address.
pub fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(IpAddr::V4(address)),
        Host::Ipv6(address) => Some(IpAddr::V6(address)),
        Host::Domain(_) => None,
    }
}

/// The resolver's refusal.
#[derive(Debug, thiserror::Error)]
#[error("the name has only private addresses")]
struct OnlyPrivate;

/// Whether the resolver's refusal is among an error's sources.
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

/// Whether an address belongs to the public Internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || shared
        || benchmark
        || a == 0
        || a >= 224
        || (a, b, c) == (192, 0, 0))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let inner =
        |high: u16, low: u16| is_public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        // Mapped and translated IPv4 addresses.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            inner(high, low)
        }
        [0x2002, high, low, ..] => inner(high, low),
        [0x2001, 0xdb8, ..] => false,
        // Global unicast. Local, multicast and unassigned addresses are outside of it.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_loopback_and_translated_addresses_are_not_public() {
        for private in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fc00::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2001:db8::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
