//! Uploads, with or without a track.

use actix_web::http::Method;
use actix_web::web::ServiceConfig;

use super::at;

pub mod body;
pub mod complete;
pub mod confirm;
pub mod create;
pub mod delete;
pub mod events;
pub mod get;
pub mod list;
pub mod list_parts;
pub mod presign;
pub mod sign_parts;

pub(super) fn register(config: &mut ServiceConfig) {
    at("/api/uploads").get(list::handle).on(&[Method::POST], create::handle).add_to(config);
    at("/api/uploads/{id}").get(get::handle).on(&[Method::DELETE], delete::handle).add_to(config);
    at("/api/uploads/{id}/events").get(events::handle).add_to(config);
    at("/api/uploads/{id}/presign").on(&[Method::POST], presign::handle).add_to(config);
    at("/api/uploads/{id}/parts")
        .get(list_parts::handle)
        .on(&[Method::POST], sign_parts::handle)
        .add_to(config);
    at("/api/uploads/{id}/complete").on(&[Method::POST], complete::handle).add_to(config);
    at("/api/uploads/{id}/confirm").on(&[Method::POST], confirm::handle).add_to(config);
}
