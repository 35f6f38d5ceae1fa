//! `GET /metrics`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::http::HttpState;
use crate::http::openapi::NotFound;
use crate::http::problem::{ApiError, Code};
use crate::telemetry::metrics;

/// The text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics for Prometheus
///
/// In the text format. 404 if `telemetry.metrics` is off. Labels contain names from the
/// configuration and route templates, never ids, keys or owners.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "service",
    responses((status = 200, description = "The metrics", body = String,
        content_type = "text/plain"), NotFound))]
pub async fn handle(state: Data<HttpState>) -> Result<HttpResponse, ApiError> {
    // Checked first, to avoid the queries if metrics are off.
    if metrics::render().is_none() {
        return Err(ApiError::saying(
            Code::NotFound,
            "Metrics are disabled; telemetry.metrics enables them",
        ));
    }
    if let Err(error) = state.app.observe().await {
        // The other metrics are still useful if the database is not available.
        tracing::warn!(error = &error as &dyn std::error::Error, "some gauges were not updated");
    }
    let text = metrics::render().unwrap_or_default();
    Ok(HttpResponse::Ok().content_type(TEXT).body(text))
}
