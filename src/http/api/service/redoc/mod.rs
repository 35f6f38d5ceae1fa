//! `GET /api/schema/redoc`

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};

/// `ReDoc` 2.5.2 as its npm package has it, but for its logo, which it would fetch from a CDN.
const SCRIPT: &str = include_str!("redoc.standalone.js");

/// Styles are written by the script, its search runs in a worker that it makes.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// The document to read
///
/// Everything that the page loads comes from here.
#[utoipa::path(get, path = "/api/schema/redoc", operation_id = "redoc", tag = "service",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub async fn handle() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(include_str!("page.html"))
}

/// The page's script.
pub async fn script() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/javascript; charset=utf-8")
        .insert_header((CACHE_CONTROL, "public, max-age=86400"))
        .body(SCRIPT)
}
