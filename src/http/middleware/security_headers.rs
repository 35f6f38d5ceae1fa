//! Headers that limit what a browser does with a response.

use actix_web::http::header::{
    self, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};

/// The content security policy of responses that are not pages.
const DATA_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// The content security policy of pages. They load everything from this service. A page that needs
/// more sets its own policy.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
    connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
);

/// Two years, the minimum for browsers' preload lists.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000");

const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

/// Adds the security headers that are missing.
pub fn add_security_headers(headers: &mut HeaderMap, https: bool) {
    let is_page = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let policy = if is_page { PAGE_POLICY } else { DATA_POLICY };
    let mut add = |name: HeaderName, value: HeaderValue| {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    };
    add(X_CONTENT_TYPE_OPTIONS, NO_SNIFFING);
    add(REFERRER_POLICY, NO_REFERRER);
    add(CONTENT_SECURITY_POLICY, policy);
    if https {
        add(STRICT_TRANSPORT_SECURITY, HSTS);
    }
}
