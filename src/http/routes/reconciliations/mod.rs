//! Reconciliation runs, for administrators.

use actix_web::http::Method;
use actix_web::web::ServiceConfig;

use super::at;

pub mod body;
pub mod cancel;
pub mod events;
pub mod findings;
pub mod get;
pub mod list;
pub mod start;

pub(super) fn register(config: &mut ServiceConfig) {
    at("/api/admin/reconciliations")
        .get(list::handle)
        .on(&[Method::POST], start::handle)
        .add_to(config);
    at("/api/admin/reconciliations/{id}").get(get::handle).add_to(config);
    at("/api/admin/reconciliations/{id}/events").get(events::handle).add_to(config);
    at("/api/admin/reconciliations/{id}/findings").get(findings::handle).add_to(config);
    at("/api/admin/reconciliations/{id}/cancel").on(&[Method::POST], cancel::handle).add_to(config);
}
