//! The authenticated caller.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};

use crate::domain::Owner;
use crate::http::problem::{ApiError, Code};

/// The authenticated caller, which [`access`](crate::http::middleware::access) determines. Use
/// cases take its owner, so that a caller cannot reach the resources of others.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The owner of everything that the request creates or reads.
    pub owner: Owner,
}

impl Caller {
    /// The caller of this request. It is an internal error if the route declares no scope.
    pub fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let caller = request.extensions().get::<Self>().cloned();
        caller.ok_or_else(|| ApiError::new(Code::Internal).because("the route declares no scope"))
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}
