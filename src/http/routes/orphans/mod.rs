//! Objects without a row, for administrators.

use actix_web::http::Method;
use actix_web::web::ServiceConfig;

use super::at;

pub mod purge;

pub(super) fn register(config: &mut ServiceConfig) {
    at("/api/admin/orphans/purge").on(&[Method::POST], purge::handle).add_to(config);
}
