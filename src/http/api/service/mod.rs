//! Health, readiness, metrics and documentation of the service.

use super::{Routes, at};
use crate::http::middleware::accept::Produces;
use crate::http::middleware::access::Access;

pub mod healthz;
pub mod metrics;
pub mod readyz;
pub mod redoc;
pub mod schema;
pub mod swagger_ui;

pub(super) fn register(routes: &mut Routes) {
    at("/healthz").get(Access::Public, healthz::handle).add_to(routes);
    at("/readyz").get(Access::Public, readyz::handle).add_to(routes);
    at("/metrics").producing(Produces::Text).get(Access::Public, metrics::handle).add_to(routes);
    at("/api/schema").get(Access::Public, schema::handle).add_to(routes);
    let page = |path| at(path).producing(Produces::Html);
    page("/api/schema/redoc").get(Access::Public, redoc::handle).add_to(routes);
    page("/api/schema/swagger-ui").get(Access::Public, swagger_ui::handle).add_to(routes);
    // Browsers send specific media types for scripts, styles and icons but accept all.
    let file = |path| at(path).producing(Produces::Any);
    file("/api/schema/redoc/redoc.standalone.js").get(Access::Public, redoc::script).add_to(routes);
    file("/api/schema/swagger-ui/{file}").get(Access::Public, swagger_ui::handle).add_to(routes);
}
