//! Pages that explain the problems.

use super::{Routes, at};
use crate::http::middleware::accept::Produces;
use crate::http::middleware::access::Access;

pub mod get;

pub(super) fn register(routes: &mut Routes) {
    at("/problems/{name}")
        .producing(Produces::Html)
        .get(Access::Public, get::handle)
        .add_to(routes);
}
