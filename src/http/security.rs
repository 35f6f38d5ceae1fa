//! Headers that keep browsers from doing more with an answer than was meant, and who may read
//! answers from another origin.

use actix_cors::Cors;
use actix_web::http::header::{
    self, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};

use super::extract::idempotency::IDEMPOTENCY_KEY;
use super::request_id::REQUEST_ID;

/// For answers that no browser is to show as a page.
const BARE_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// For pages of this service: all that they load comes from here. A page that needs more sends
/// a policy of its own.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
    connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
);

/// Two years, as browsers' preload lists ask.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000");

const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

/// Adds what every answer carries; what is there already stays.
pub fn harden(headers: &mut HeaderMap, https: bool) {
    let is_page = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let policy = if is_page { PAGE_POLICY } else { BARE_POLICY };
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

/// Lets pages of these origins call; `*` is all of them. Tokens are sent by scripts, never by
/// the browser itself, so no credentials are let through.
pub fn cors(origins: &[String]) -> Cors {
    let rate = ["ratelimit", "ratelimit-policy"].map(HeaderName::from_static);
    let exposed = [header::LOCATION, header::RETRY_AFTER, header::ETAG, REQUEST_ID];
    let mut cors = Cors::default()
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
        .allowed_headers([header::AUTHORIZATION, header::CONTENT_TYPE, IDEMPOTENCY_KEY, REQUEST_ID])
        .allowed_headers(["content-digest", "repr-digest", "content-md5", "last-event-id"])
        .expose_headers(exposed.into_iter().chain(rate))
        .max_age(3600);
    for origin in origins {
        cors = match origin.as_str() {
            "*" => cors.allow_any_origin().send_wildcard(),
            origin => cors.allowed_origin(origin),
        };
    }
    cors
}
