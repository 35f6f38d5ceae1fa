//! Reconciliation runs, for administrators.

use actix_web::http::Method;

use super::{Routes, at};
use crate::domain::Scope;
use crate::http::middleware::accept::Produces;
use crate::http::middleware::access::Access::Needs;

pub mod body;
pub mod cancel;
pub mod events;
pub mod findings;
pub mod get;
pub mod list;
pub mod start;

pub(super) fn register(routes: &mut Routes) {
    at("/api/admin/reconciliations")
        .get(Needs(Scope::Admin), list::handle)
        .on(&[Method::POST], Needs(Scope::Admin), start::handle)
        .add_to(routes);
    at("/api/admin/reconciliations/{id}").get(Needs(Scope::Admin), get::handle).add_to(routes);
    at("/api/admin/reconciliations/{id}/events")
        .producing(Produces::EventStream)
        .get(Needs(Scope::Admin), events::handle)
        .add_to(routes);
    at("/api/admin/reconciliations/{id}/findings")
        .get(Needs(Scope::Admin), findings::handle)
        .add_to(routes);
    at("/api/admin/reconciliations/{id}/cancel")
        .on(&[Method::POST], Needs(Scope::Admin), cancel::handle)
        .add_to(routes);
}
