//! Uploads: each is one file that a client sends to a store, or through this service.

use actix_web::http::Method;

use super::{Routes, at};
use crate::domain::Scope;
use crate::http::middleware::accept::Produces;
use crate::http::middleware::access::Access::{Needs, NeedsOrToken};

pub mod body;
pub mod complete;
pub mod confirm;
pub mod confirm_batch;
pub mod content;
pub mod create;
pub mod create_batch;
pub mod delete;
pub mod events;
pub mod file;
pub mod get;
pub mod history;
pub mod list;
pub mod list_parts;
pub mod presign;
pub mod redirect;
pub mod sign_parts;
pub mod verdicts;

pub(super) fn register(routes: &mut Routes) {
    at("/api/uploads")
        .get(NeedsOrToken(Scope::UploadsRead), list::handle)
        .on(&[Method::POST], NeedsOrToken(Scope::UploadsWrite), create::handle)
        .add_to(routes);
    // These routes are before the routes with ids, which would match `batch` as an id.
    at("/api/uploads/batch")
        .on(&[Method::POST], NeedsOrToken(Scope::UploadsWrite), create_batch::handle)
        .add_to(routes);
    at("/api/uploads/batch/confirm")
        .on(&[Method::POST], NeedsOrToken(Scope::UploadsWrite), confirm_batch::handle)
        .add_to(routes);
    at("/api/uploads/{id}")
        .get(NeedsOrToken(Scope::UploadsRead), get::handle)
        .producing(Produces::Any)
        .on(&[Method::DELETE], NeedsOrToken(Scope::UploadsWrite), delete::handle)
        .add_to(routes);
    at("/api/uploads/{id}/events")
        .producing(Produces::EventStream)
        .get(NeedsOrToken(Scope::UploadsRead), events::handle)
        .add_to(routes);
    at("/api/uploads/{id}/content")
        .on(&[Method::POST, Method::PUT], NeedsOrToken(Scope::UploadsWrite), content::handle)
        .add_to(routes);
    // Players send `Accept: audio/*` and follow the redirect.
    at("/api/uploads/{id}/file")
        .producing(Produces::Any)
        .get(NeedsOrToken(Scope::UploadsRead), file::handle)
        .add_to(routes);
    at("/api/uploads/{id}/history").get(Needs(Scope::UploadsRead), history::handle).add_to(routes);
    at("/api/uploads/{id}/presign")
        .on(&[Method::POST], NeedsOrToken(Scope::UploadsWrite), presign::handle)
        .add_to(routes);
    at("/api/uploads/{id}/parts")
        .get(NeedsOrToken(Scope::UploadsRead), list_parts::handle)
        .on(&[Method::POST], NeedsOrToken(Scope::UploadsWrite), sign_parts::handle)
        .add_to(routes);
    at("/api/uploads/{id}/complete")
        .on(&[Method::POST], NeedsOrToken(Scope::UploadsWrite), complete::handle)
        .add_to(routes);
    at("/api/uploads/{id}/verdicts")
        .on(&[Method::POST], Needs(Scope::Admin), verdicts::handle)
        .add_to(routes);
    at("/api/uploads/{id}/confirm")
        .on(&[Method::POST], NeedsOrToken(Scope::UploadsWrite), confirm::handle)
        .add_to(routes);
    // A short path outside of `/api`, because apps build it from a token and an id.
    at("/up/{id}")
        .producing(Produces::Any)
        .on(&[Method::PUT], NeedsOrToken(Scope::UploadsWrite), redirect::handle)
        .add_to(routes);
}
