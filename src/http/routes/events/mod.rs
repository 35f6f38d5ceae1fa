//! What stores tell the service.

use actix_web::http::Method;
use actix_web::web::ServiceConfig;

use super::at;

pub mod s3;

pub(super) fn register(config: &mut ServiceConfig) {
    at("/api/events/s3").on(&[Method::POST], s3::handle).add_to(config);
}
