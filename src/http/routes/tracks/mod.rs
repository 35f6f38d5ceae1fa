//! Tracks.

use actix_web::http::Method;
use actix_web::web::ServiceConfig;

use super::at;

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

pub(super) fn register(config: &mut ServiceConfig) {
    at("/api/tracks").get(list::handle).on(&[Method::POST], create::handle).add_to(config);
    at("/api/tracks/{id}")
        .get(get::handle)
        .on(&[Method::PUT], put::handle)
        .on(&[Method::PATCH], patch::handle)
        .on(&[Method::DELETE], delete::handle)
        .add_to(config);
    at("/api/tracks/{id}/presigned-url").on(&[Method::POST], presigned_url::handle).add_to(config);
    // The rest of the path, slashes too: a path is refused as a filename, with a sentence.
    at("/api/tracks/{id}/upload/{filename:.+}")
        .on(&[Method::POST, Method::PUT], upload::handle)
        .add_to(config);
    at("/api/tracks/{id}/file").get(file::handle).add_to(config);
}
