//! Objects without an upload, for administrators.

use actix_web::http::Method;

use super::{Routes, at};
use crate::domain::Scope;
use crate::http::middleware::access::Access::Needs;

pub mod purge;

pub(super) fn register(routes: &mut Routes) {
    at("/api/admin/orphans/purge")
        .on(&[Method::POST], Needs(Scope::Admin), purge::handle)
        .add_to(routes);
}
