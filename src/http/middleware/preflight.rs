//! Preflight requests of browsers.

use actix_web::dev::{Service, ServiceRequest};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};

/// Changes each preflight request so that it asks only for GET and no headers. The response to an
/// allowed origin then lists the allowed methods and headers. Without this, a preflight request for
/// another method or header would get a 400, and the browser could not show which one is not
/// allowed.
pub fn list_allowed<S: Service<ServiceRequest>>(
    mut request: ServiceRequest,
    service: &S,
) -> S::Future {
    let is_options = request.method() == Method::OPTIONS;
    let headers = request.headers_mut();
    if is_options && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("GET"));
        headers.remove(header::ACCESS_CONTROL_REQUEST_HEADERS);
    }
    service.call(request)
}
