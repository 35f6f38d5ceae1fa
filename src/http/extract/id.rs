//! The id in a path.

use std::future::{Ready, ready};
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};

use crate::http::problem::{ApiError, Code};

/// The length of a UUID with hyphens. Other formats of a UUID are refused.
pub(super) const UUID_LEN: usize = 36;

/// The segment `{id}` of the path. An invalid id returns 404.
#[derive(Debug, Clone, Copy)]
pub struct Id<T>(pub T);

impl<T: FromStr> FromRequest for Id<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let text = request.match_info().get("id").filter(|text| text.len() == UUID_LEN);
        let id = text.and_then(|text| text.parse().ok()).map(Self);
        ready(
            id.ok_or_else(|| ApiError::saying(Code::NotFound, "The id in the path must be a UUID")),
        )
    }
}
