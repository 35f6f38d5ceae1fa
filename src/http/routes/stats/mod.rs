//! How things stand, for administrators.

use actix_web::web::ServiceConfig;

use super::at;

pub mod get;

pub(super) fn register(config: &mut ServiceConfig) {
    at("/api/admin/stats").get(get::handle).add_to(config);
}
