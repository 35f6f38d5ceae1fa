//! Attachments: files of the records of another application. A subject, which that application
//! chooses, names the record.

use actix_web::http::Method;

use super::{Routes, at};
use crate::domain::Scope;
use crate::http::middleware::accept::Produces;
use crate::http::middleware::access::Access::Needs;

pub mod delete;
pub mod file;
pub mod get;
pub mod list;
pub mod put;

pub(super) fn register(routes: &mut Routes) {
    at("/api/attachments").get(Needs(Scope::UploadsRead), list::handle).add_to(routes);
    at("/api/attachments/{subject}")
        .get(Needs(Scope::UploadsRead), get::handle)
        .on(&[Method::PUT], Needs(Scope::UploadsWrite), put::handle)
        .producing(Produces::Any)
        .on(&[Method::DELETE], Needs(Scope::UploadsWrite), delete::handle)
        .add_to(routes);
    at("/api/attachments/{subject}/file")
        .producing(Produces::Any)
        .get(Needs(Scope::UploadsRead), file::handle)
        .add_to(routes);
}
