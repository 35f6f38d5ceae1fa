//! Tracks: records with a title, an artist and an audio file.

use actix_web::http::Method;

use super::{Routes, at};
use crate::domain::Scope;
use crate::http::middleware::accept::Produces;
use crate::http::middleware::access::Access::Needs;

pub mod body;
pub mod create;
pub mod delete;
pub mod file;
pub mod get;
pub mod list;
pub mod patch;
pub mod presigned_url;
pub mod put;
pub mod upload;

pub(super) fn register(routes: &mut Routes) {
    at("/api/tracks")
        .get(Needs(Scope::TracksRead), list::handle)
        .on(&[Method::POST], Needs(Scope::TracksWrite), create::handle)
        .add_to(routes);
    at("/api/tracks/{id}")
        .get(Needs(Scope::TracksRead), get::handle)
        .on(&[Method::PUT], Needs(Scope::TracksWrite), put::handle)
        .on(&[Method::PATCH], Needs(Scope::TracksWrite), patch::handle)
        .producing(Produces::Any)
        .on(&[Method::DELETE], Needs(Scope::TracksWrite), delete::handle)
        .add_to(routes);
    at("/api/tracks/{id}/presigned-url")
        .on(&[Method::POST], Needs(Scope::UploadsWrite), presigned_url::handle)
        .add_to(routes);
    // The pattern includes slashes, so that a path instead of the filename gets a 400 with an
    // explanation.
    at("/api/tracks/{id}/upload/{filename:.+}")
        .on(&[Method::POST, Method::PUT], Needs(Scope::UploadsWrite), upload::handle)
        .add_to(routes);
    // Players send `Accept: audio/*` and follow the redirect.
    at("/api/tracks/{id}/file")
        .producing(Produces::Any)
        .get(Needs(Scope::TracksRead), file::handle)
        .add_to(routes);
}
