//! Who asks.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};

use crate::domain::Owner;
use crate::http::problem::ApiError;

/// Whoever sent the request. Use cases take its owner, so what belongs to others is out
/// of reach.
#[derive(Debug, Clone)]
pub struct Caller {
    /// In whose name.
    pub owner: Owner,
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(_request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let caller = Self { owner: Owner::anonymous() };
        // Onto every log line of the request.
        tracing::Span::current().record("owner", caller.owner.as_str());
        ready(Ok(caller))
    }
}
