//! Uploads, with or without a track.

use actix_web::http::Method;

use super::{Routes, at};
use crate::domain::Scope;
use crate::http::middleware::accept::Produces;
use crate::http::middleware::access::Access::Needs;

pub mod body;
pub mod complete;
pub mod confirm;
pub mod content;
pub mod create;
pub mod delete;
pub mod events;
pub mod file;
pub mod get;
pub mod list;
pub mod list_parts;
pub mod presign;
pub mod sign_parts;

pub(super) fn register(routes: &mut Routes) {
    at("/api/uploads")
        .get(Needs(Scope::UploadsRead), list::handle)
        .on(&[Method::POST], Needs(Scope::UploadsWrite), create::handle)
        .add_to(routes);
    at("/api/uploads/{id}")
        .get(Needs(Scope::UploadsRead), get::handle)
        .producing(Produces::Any)
        .on(&[Method::DELETE], Needs(Scope::UploadsWrite), delete::handle)
        .add_to(routes);
    at("/api/uploads/{id}/events")
        .producing(Produces::EventStream)
        .get(Needs(Scope::UploadsRead), events::handle)
        .add_to(routes);
    at("/api/uploads/{id}/content")
        .on(&[Method::POST, Method::PUT], Needs(Scope::UploadsWrite), content::handle)
        .add_to(routes);
    // Players send `Accept: audio/*` and follow the redirect.
    at("/api/uploads/{id}/file")
        .producing(Produces::Any)
        .get(Needs(Scope::UploadsRead), file::handle)
        .add_to(routes);
    at("/api/uploads/{id}/presign")
        .on(&[Method::POST], Needs(Scope::UploadsWrite), presign::handle)
        .add_to(routes);
    at("/api/uploads/{id}/parts")
        .get(Needs(Scope::UploadsRead), list_parts::handle)
        .on(&[Method::POST], Needs(Scope::UploadsWrite), sign_parts::handle)
        .add_to(routes);
    at("/api/uploads/{id}/complete")
        .on(&[Method::POST], Needs(Scope::UploadsWrite), complete::handle)
        .add_to(routes);
    at("/api/uploads/{id}/confirm")
        .on(&[Method::POST], Needs(Scope::UploadsWrite), confirm::handle)
        .add_to(routes);
}
