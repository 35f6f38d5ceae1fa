//! Counts and times requests by route template. No label contains text from a client.

use std::time::Duration;

use actix_web::http::Method;

use crate::telemetry::metrics as names;

/// Records a response. `route` is the template of the matched route. After a panic, the method and
/// the route are unknown.
pub(super) fn record(method: Option<&Method>, route: Option<&str>, status: u16, elapsed: Duration) {
    let method = method.map_or("other", label);
    let route = route.unwrap_or("none").to_owned();
    metrics::counter!(names::HTTP_REQUESTS,
        "method" => method, "route" => route.clone(), "status" => status.to_string())
    .increment(1);
    metrics::histogram!(names::HTTP_DURATION, "method" => method, "route" => route).record(elapsed);
}

/// The label of a method. Unknown methods share one label.
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
