//! Preflight requests of browsers.

use actix_web::dev::{Service, ServiceRequest};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};

/// Makes the CORS rules respond to each preflight request of an allowed origin with the methods
/// and headers that are allowed. They would refuse a request that names any other with 400, and
/// the browser could not tell the developer which one is not allowed.
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
