//! `GET /metrics`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::http::HttpState;
use crate::http::openapi::NotFound;
use crate::http::problem::{ApiError, Code};
use crate::telemetry::metrics;

/// The version of the text format, as scrapers negotiate it.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics for Prometheus
///
/// In the text format. 404 where `telemetry.metrics` is off. Labels hold names from the
/// configuration and route templates, never ids, keys or owners.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "service",
    responses((status = 200, description = "The metrics", body = String,
        content_type = "text/plain"), NotFound))]
pub async fn handle(state: Data<HttpState>) -> Result<HttpResponse, ApiError> {
    // Before anything is asked: where nothing is recorded, nothing needs to be.
    if metrics::render().is_none() {
        return Err(ApiError::saying(Code::NotFound, "Metrics are switched off"));
    }
    if let Err(error) = state.app.observe().await {
        // What the process counts itself is worth most while the database is down.
        tracing::warn!(error = &error as &dyn std::error::Error, "some gauges are not set");
    }
    let text = metrics::render().unwrap_or_default();
    Ok(HttpResponse::Ok().content_type(TEXT).body(text))
}
