//! Moves of objects to another location, for administrators.

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
    at("/api/admin/moves")
        .get(Needs(Scope::Admin), list::handle)
        .on(&[Method::POST], Needs(Scope::Admin), start::handle)
        .add_to(routes);
    at("/api/admin/moves/{id}").get(Needs(Scope::Admin), get::handle).add_to(routes);
    at("/api/admin/moves/{id}/events")
        .producing(Produces::EventStream)
        .get(Needs(Scope::Admin), events::handle)
        .add_to(routes);
    at("/api/admin/moves/{id}/findings").get(Needs(Scope::Admin), findings::handle).add_to(routes);
    at("/api/admin/moves/{id}/cancel")
        .on(&[Method::POST], Needs(Scope::Admin), cancel::handle)
        .add_to(routes);
}
