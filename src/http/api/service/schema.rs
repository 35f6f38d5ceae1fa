//! `GET /api/schema`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::http::openapi::Document;

/// Get this document
///
/// `OpenAPI` 3.1 in JSON.
#[utoipa::path(get, path = "/api/schema", operation_id = "schema", tag = "service",
    responses((status = 200, description = "The document", body = serde_json::Value)))]
pub async fn handle(document: Data<Document>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(document.0.clone())
}
