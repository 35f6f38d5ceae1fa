//! HTTP to addresses that configuration names and others own: private ones are refused
//! where the connection is made, after the name was resolved, and no redirect is followed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::HttpConnectorSettings;
use bytes::Bytes;
use tokio::time::timeout;
use url::{Host, Url};

use super::wire::{Answer, Wire};
use super::{Result, StoreError};

/// Sends requests out.
#[derive(Debug)]
pub struct Outward {
    wire: Wire,
    allow_private: bool,
    timeout: Duration,
}

impl Outward {
    /// `timeout` is for a request and its whole answer.
    pub fn new(timeout: Duration, allow_private: bool) -> Self {
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(timeout)
            .build();
        let connector = Connector::builder()
            .connector_settings(settings)
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_with_resolver(Resolver { allow_private });
        Self { wire: Wire::over(connector), allow_private, timeout }
    }

    /// Posts a body.
    pub async fn post<'a>(
        &self,
        url: &Url,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: Bytes,
    ) -> Result<Answer> {
        self.send("POST", url, headers, body).await
    }

    /// Gets a document of up to 64 KiB.
    pub async fn get(&self, url: &Url) -> Result<Answer> {
        self.send("GET", url, [("accept", "application/json")], Bytes::new()).await
    }

    async fn send<'a>(
        &self,
        method: &str,
        url: &Url,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: Bytes,
    ) -> Result<Answer> {
        // An address needs no resolver, so it is looked at here.
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => None,
        };
        if !self.allow_private && address.is_some_and(|address| !is_public(address)) {
            return Err(StoreError::Unavailable(REFUSED.into()));
        }
        let sent = self.wire.request(method, url.as_str(), headers, body);
        let late = |_| StoreError::Unavailable("no answer in time".into());
        timeout(self.timeout, sent).await.map_err(late)?
    }
}

const REFUSED: &str = "the address is private, and allow_private is not set";

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
            if found.is_empty() { Err(ResolveDnsError::new(REFUSED)) } else { Ok(found) }
        })
    }
}

/// Whether an address is one of the open Internet's.
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
        // Mapped and translated addresses of version 4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            inner(high, low)
        }
        [0x2002, high, low, ..] => inner(high, low),
        [0x2001, 0xdb8, ..] => false,
        // Global unicast; all that is local, multicast or unassigned is outside.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_loopback_and_translated_addresses_are_told_from_public_ones() {
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
