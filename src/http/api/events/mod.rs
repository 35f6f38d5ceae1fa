//! Events from stores.

use actix_web::http::Method;

use super::{Routes, at};
use crate::http::middleware::accept::Produces;
use crate::http::middleware::access::Access;

pub mod s3;

pub(super) fn register(routes: &mut Routes) {
    at("/api/events/s3")
        .producing(Produces::Any)
        .on(&[Method::POST], Access::Events, s3::handle)
        .add_to(routes);
}
