//! Counts and times requests, by route template: what a client sends never becomes a label.

use std::time::Duration;

use actix_web::http::Method;

use crate::telemetry::metrics as names;

/// Notes an answer. `route` is the template that matched, if any did; of a request whose
/// handler panicked nothing is left but the status.
pub(super) fn note(
    method: Option<&Method>,
    route: Option<String>,
    status: u16,
    took: Option<Duration>,
) {
    let method = method.map_or("other", label);
    let route = route.unwrap_or_else(|| "none".to_owned());
    metrics::counter!(names::HTTP_REQUESTS,
        "method" => method, "route" => route.clone(), "status" => status.to_string())
    .increment(1);
    if let Some(took) = took {
        metrics::histogram!(names::HTTP_DURATION, "method" => method, "route" => route)
            .record(took);
    }
}

/// Clients may make up methods.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
