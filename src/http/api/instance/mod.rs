//! The identity of this service's database, and the markers that store it in the buckets. For
//! administrators.

use actix_web::http::Method;

use super::{Routes, at};
use crate::domain::Scope;
use crate::http::middleware::access::Access::Needs;

pub mod reclaim;
pub mod reissue;

pub(super) fn register(routes: &mut Routes) {
    at("/api/admin/instance/reissue")
        .on(&[Method::POST], Needs(Scope::Admin), reissue::handle)
        .add_to(routes);
    at("/api/admin/instance/reclaim")
        .on(&[Method::POST], Needs(Scope::Admin), reclaim::handle)
        .add_to(routes);
}
