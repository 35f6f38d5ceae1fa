//! Statistics, for administrators.

use super::{Routes, at};
use crate::domain::Scope;
use crate::http::middleware::access::Access::Needs;

pub mod get;

pub(super) fn register(routes: &mut Routes) {
    at("/api/admin/stats").get(Needs(Scope::Admin), get::handle).add_to(routes);
}
