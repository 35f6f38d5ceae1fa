//! Who asks.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};

use crate::domain::Owner;
use crate::http::problem::{ApiError, Code};

/// Whoever sent the request, as [`access`](crate::http::access) found out. Use cases take its
/// owner, so what belongs to others is out of reach.
#[derive(Debug, Clone)]
pub struct Caller {
    /// In whose name.
    pub owner: Owner,
}

impl Caller {
    /// Who sent this request.
    pub fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let caller = request.extensions().get::<Self>().cloned();
        // A route that asks for no scope has no caller: rather none than the wrong one.
        caller.ok_or_else(|| ApiError::new(Code::Internal).because("no scope is declared"))
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}
