//! What the problems mean, for people.

use super::{Routes, at};
use crate::http::accept::Gives;
use crate::http::access::Access;

pub mod get;

pub(super) fn register(routes: &mut Routes) {
    at("/problems/{name}").giving(Gives::Html).get(Access::Public, get::handle).add_to(routes);
}
