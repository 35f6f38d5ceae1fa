//! `GET /api/schema/swagger-ui`

use std::sync::Arc;

use actix_web::http::header::{CONTENT_ENCODING, ContentEncoding};
use actix_web::{HttpRequest, HttpResponse};
use utoipa_swagger_ui::{Config, serve};

use crate::http::problem::{ApiError, Code};

/// Where the page's own files are. The page names them relative to itself, which fails
/// without a trailing slash, so it is told.
const BASE: &str = "<head>\n    <base href=\"/api/schema/swagger-ui/\">";

/// The document to click through
///
/// Everything that the page loads comes from here.
#[utoipa::path(get, path = "/api/schema/swagger-ui", operation_id = "swagger_ui", tag = "service",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub async fn handle(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let file = request.match_info().get("file").unwrap_or("index.html");
    // The validator would send the document's address to a public service.
    let config = Config::from("/api/schema").validator_url("none");
    let served = serve(file, Arc::new(config));
    // The error can't be sent between threads; its words can.
    let served =
        served.map_err(|error| ApiError::new(Code::Internal).because(error.to_string()))?;
    let served = served.ok_or_else(|| ApiError::saying(Code::NotFound, "There is no such path"))?;
    let mut response = HttpResponse::Ok();
    response.content_type(served.content_type);
    if served.gzpipped {
        response.insert_header((CONTENT_ENCODING, ContentEncoding::Gzip));
    } else if file == "index.html"
        && let Ok(page) = std::str::from_utf8(&served.bytes)
    {
        return Ok(response.body(page.replacen("<head>", BASE, 1)));
    }
    Ok(response.body(served.bytes.into_owned()))
}
