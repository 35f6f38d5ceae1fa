//! Upload tokens: credentials for browsers and apps without an account.

use actix_web::http::Method;

use super::{Routes, at};
use crate::domain::Scope;
use crate::http::middleware::accept::Produces;
use crate::http::middleware::access::Access::Needs;

pub mod body;
pub mod create;
pub mod delete;
pub mod list;

pub(super) fn register(routes: &mut Routes) {
    at("/api/upload-tokens")
        .get(Needs(Scope::UploadsRead), list::handle)
        .on(&[Method::POST], Needs(Scope::UploadsWrite), create::handle)
        .add_to(routes);
    at("/api/upload-tokens/{id}")
        .producing(Produces::Any)
        .on(&[Method::DELETE], Needs(Scope::UploadsWrite), delete::handle)
        .add_to(routes);
}
