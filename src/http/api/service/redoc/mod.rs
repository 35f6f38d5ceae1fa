//! `GET /api/schema/redoc`

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};

/// `ReDoc` 2.5.2 from its npm package. Its logo was removed, because the page would load the logo
/// from a CDN.
const SCRIPT: &str = include_str!("redoc.standalone.js");

/// The content security policy of the page. The script creates inline styles, and runs its search
/// in a worker.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// Documentation for reading
///
/// The page loads everything from this service.
#[utoipa::path(get, path = "/api/schema/redoc", operation_id = "redoc", tag = "service",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub async fn handle() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(include_str!("page.html"))
}

/// The script of the page.
pub async fn script() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/javascript; charset=utf-8")
        .insert_header((CACHE_CONTROL, "public, max-age=86400"))
        .body(SCRIPT)
}
