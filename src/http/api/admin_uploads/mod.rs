//! Uploads of any owner, for administrators.

use actix_web::http::Method;

use super::{Routes, at};
use crate::domain::Scope;
use crate::http::middleware::access::Access::Needs;

pub mod verify;
pub mod verify_rejected;

pub(super) fn register(routes: &mut Routes) {
    at("/api/admin/uploads/verify")
        .on(&[Method::POST], Needs(Scope::Admin), verify_rejected::handle)
        .add_to(routes);
    at("/api/admin/uploads/{id}/verify")
        .on(&[Method::POST], Needs(Scope::Admin), verify::handle)
        .add_to(routes);
}
