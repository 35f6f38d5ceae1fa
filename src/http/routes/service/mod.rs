//! The service about itself: alive, ready, documented.

use super::{Routes, at};
use crate::http::access::Access;

pub mod healthz;
pub mod readyz;
pub mod schema;
pub mod swagger_ui;

pub(super) fn register(routes: &mut Routes) {
    at("/healthz").get(Access::Public, healthz::handle).add_to(routes);
    at("/readyz").get(Access::Public, readyz::handle).add_to(routes);
    at("/api/schema").get(Access::Public, schema::handle).add_to(routes);
    at("/api/schema/swagger-ui").get(Access::Public, swagger_ui::handle).add_to(routes);
    at("/api/schema/swagger-ui/{file}").get(Access::Public, swagger_ui::handle).add_to(routes);
}
