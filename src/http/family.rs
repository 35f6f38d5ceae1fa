//! API families: groups of routes that share a wire format.
//!
//! The native API ([`NativeApi`](super::api::NativeApi)) is one. Another protocol over the same use
//! cases is a folder `dialects/<name>/` with a type that implements [`ApiFamily`]; see
//! [`dialects`](super::dialects). Its handlers call the same use cases and return [`ApiError`];
//! only the family decides what an error looks like and which CORS headers its clients need.

use actix_cors::Cors;
use actix_web::HttpResponse;
use actix_web::http::header::HeaderValue;
use actix_web::web::ServiceConfig;

use super::middleware::request_id::RequestId;
use super::problem::ApiError;

/// Routes with their own wire format.
pub trait ApiFamily: Send + Sync + 'static {
    /// The path prefix of the routes, such as `/tus`. Empty for the native API, which is registered
    /// last.
    fn prefix(&self) -> &'static str;

    /// Adds the routes. Paths are relative to [`Self::prefix`].
    fn register(&self, config: &mut ServiceConfig);

    /// The CORS rules for pages of these origins ([`allow_origins`]).
    fn cors(&self, origins: &[String]) -> Cors;

    /// The response to a failed request. It must not contain the error's `source()`, which is only
    /// for the log.
    fn render(&self, error: &ApiError, request: &RequestId) -> HttpResponse;
}

/// Adds the allowed origins to CORS rules. `*` means all origins. An origin with the port `*`, such
/// as `http://localhost:*`, means that host with any port.
pub fn allow_origins(cors: Cors, origins: &[String]) -> Cors {
    origins.iter().fold(cors, |cors, origin| match origin.strip_suffix(":*") {
        Some(host) => {
            let host = host.to_owned();
            cors.allowed_origin_fn(move |origin, _| has_host(origin, &host))
        }
        None if origin == "*" => cors.allow_any_origin().send_wildcard(),
        None => cors.allowed_origin(origin),
    })
}

/// Whether an `Origin` header has this scheme and host, with any port or none.
fn has_host(origin: &HeaderValue, host: &str) -> bool {
    let Some(port) = origin.as_bytes().strip_prefix(host.as_bytes()) else { return false };
    match port {
        [] => true,
        [b':', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_with_any_port_is_that_host_and_no_other() {
        let is_loopback = |origin| has_host(&HeaderValue::from_static(origin), "http://localhost");
        assert!(is_loopback("http://localhost"));
        assert!(is_loopback("http://localhost:5173"));
        for other in [
            "http://localhost.example.com",
            "http://localhost:",
            "http://localhost:80.example.com",
            "http://localhost@example.com",
            "https://localhost:5173",
            "null",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
