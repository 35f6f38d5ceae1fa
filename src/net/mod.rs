//! Outbound HTTP, and the protocol of clamd. HTTP uses the AWS SDK's connector, so that the binary
//! needs no second library for HTTP and TLS.
//!
//! [`OutboundClient`] is for URLs from the configuration whose hosts belong to other parties
//! (webhooks, JWK sets, trace collectors). It refuses private addresses unless they are allowed.
//! [`HttpClient`] does not check addresses. The AWS SDK's own clients share [`http_client`].

pub mod clamd;
pub mod client;
pub mod outbound;

use std::time::Duration;

pub use client::{HttpClient, Response, Streamed, http_client};
pub use outbound::OutboundClient;

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The URL, a header or the body can't be sent.
    #[error("the request is malformed")]
    Malformed(#[source] Source),
    /// The host resolves only to private or loopback addresses, which are not allowed.
    #[error(
        "the host has only private or loopback addresses, and requests to these are not allowed"
    )]
    PrivateAddress,
    /// The connection could not be made, or it broke before the response was complete.
    #[error("the connection failed")]
    Connection(#[source] Source),
    /// The response was not complete in time.
    #[error("no complete response within {} s", .0.as_secs_f32())]
    Timeout(Duration),
}

/// The client library's error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// A result of a request.
pub type Result<T, E = NetError> = std::result::Result<T, E>;
