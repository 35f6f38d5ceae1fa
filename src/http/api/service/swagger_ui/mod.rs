//! `GET /api/schema/swagger-ui`

use std::sync::Arc;

use actix_web::http::header::{CONTENT_ENCODING, ContentEncoding};
use actix_web::{HttpRequest, HttpResponse};
use utoipa_swagger_ui::{Config, serve};

use crate::http::problem::{ApiError, Code};

/// The page names its files relative to itself, which without a `<base>` would fail where the
/// address has no trailing slash.
const PAGE: &str = include_str!("page.html");

/// The document to click through
///
/// Everything that the page loads comes from here.
#[utoipa::path(get, path = "/api/schema/swagger-ui", operation_id = "swagger_ui", tag = "service",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub async fn handle(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let file = request.match_info().get("file").unwrap_or_default();
    if matches!(file, "" | "index.html") {
        return Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(PAGE));
    }
    // The validator would send the document's address to a public service.
    let config = Config::from("/api/schema").validator_url("none");
    let served = serve(file, Arc::new(config));
    // The error can't be sent between threads; its words can.
    let served =
        served.map_err(|error| ApiError::new(Code::Internal).because(error.to_string()))?;
    let served = served.ok_or_else(|| ApiError::saying(Code::NotFound, "There is no such path"))?;
    let mut response = HttpResponse::Ok();
    response.content_type(served.content_type);
    // Megabytes of script are kept, and sent, packed: every browser takes them so.
    if served.gzpipped {
        response.insert_header((CONTENT_ENCODING, ContentEncoding::Gzip));
    }
    Ok(response.body(served.bytes.into_owned()))
}
