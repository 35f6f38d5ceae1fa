//! `GET /api/schema/swagger-ui`

use std::sync::Arc;

use actix_web::http::header::{CONTENT_ENCODING, ContentEncoding};
use actix_web::{HttpRequest, HttpResponse};
use utoipa_swagger_ui::{Config, serve};

use crate::http::problem::{ApiError, Code};

/// The page has a `<base>`, because its relative links need a trailing slash in the URL.
const PAGE: &str = include_str!("page.html");

/// Interactive documentation
///
/// The page loads everything from this service.
#[utoipa::path(get, path = "/api/schema/swagger-ui", operation_id = "swagger_ui", tag = "service",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub async fn handle(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let file = request.match_info().get("file").unwrap_or_default();
    if matches!(file, "" | "index.html") {
        return Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(PAGE));
    }
    // The validator is off, because it would send the URL of the document to a public service.
    let config = Config::from("/api/schema").validator_url("none");
    let served = serve(file, Arc::new(config));
    // The error is not `Send`, so only its text is passed on.
    let served =
        served.map_err(|error| ApiError::new(Code::Internal).because(error.to_string()))?;
    let served = served.ok_or_else(|| ApiError::saying(Code::NotFound, "There is no such path"))?;
    let mut response = HttpResponse::Ok();
    response.content_type(served.content_type);
    // The scripts are stored compressed. Every browser accepts gzip.
    if served.gzpipped {
        response.insert_header((CONTENT_ENCODING, ContentEncoding::Gzip));
    }
    Ok(response.body(served.bytes.into_owned()))
}
