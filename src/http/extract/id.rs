//! The id in a path.

use std::future::{Ready, ready};
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};

use crate::http::problem::{ApiError, Code};

/// How long a UUID with hyphens is; its other spellings are no ids here.
pub(super) const UUID_LEN: usize = 36;

/// The segment `{id}` of the path. One that can't be an id names nothing: 404.
#[derive(Debug, Clone, Copy)]
pub struct Id<T>(pub T);

impl<T: FromStr> FromRequest for Id<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let text = request.match_info().get("id").filter(|text| text.len() == UUID_LEN);
        let id = text.and_then(|text| text.parse().ok()).map(Self);
        ready(id.ok_or_else(|| ApiError::saying(Code::NotFound, "That is not an id")))
    }
}
