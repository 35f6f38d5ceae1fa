//! The CORS headers of the native API.

use actix_cors::Cors;
use actix_web::http::header::{self, HeaderName};

use crate::http::extract::idempotency::IDEMPOTENCY_KEY;
use crate::http::family::allow_origins;
use crate::http::middleware::request_id::REQUEST_ID;

/// Allows pages of these origins ([`allow_origins`]). Credentials are not allowed: scripts send the
/// token, and the browser must not add credentials itself.
pub(super) fn cors(origins: &[String]) -> Cors {
    let rate = ["ratelimit", "ratelimit-policy"].map(HeaderName::from_static);
    let exposed = [header::LOCATION, header::RETRY_AFTER, header::ETAG, REQUEST_ID];
    let cors = Cors::default()
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
        .allowed_headers([header::AUTHORIZATION, header::CONTENT_TYPE, IDEMPOTENCY_KEY, REQUEST_ID])
        .allowed_headers(["content-digest", "repr-digest", "content-md5", "last-event-id"])
        .allowed_headers(["traceparent", "tracestate"])
        .expose_headers(exposed.into_iter().chain(rate))
        .max_age(3600);
    allow_origins(cors, origins)
}
