//! The service about itself: alive, ready, documented.

use actix_web::web::ServiceConfig;

use super::at;

pub mod healthz;
pub mod metrics;
pub mod readyz;
pub mod redoc;
pub mod schema;
pub mod swagger_ui;

pub(super) fn register(config: &mut ServiceConfig) {
    at("/healthz").get(healthz::handle).add_to(config);
    at("/readyz").get(readyz::handle).add_to(config);
    at("/metrics").get(metrics::handle).add_to(config);
    at("/api/schema").get(schema::handle).add_to(config);
    at("/api/schema/redoc").get(redoc::handle).add_to(config);
    at("/api/schema/redoc/redoc.standalone.js").get(redoc::script).add_to(config);
    at("/api/schema/swagger-ui").get(swagger_ui::handle).add_to(config);
    at("/api/schema/swagger-ui/{file}").get(swagger_ui::handle).add_to(config);
}
