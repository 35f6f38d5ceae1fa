//! Access control of a route: authentication, scope, rate limit and content negotiation.
//!
//! A route declares its [`Access`] where it is registered (`http::api`). A route without one does
//! not compile, and the OpenAPI document takes its security requirements from the same value.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage as _};

use super::accept::Produces;
use super::rate_limit::{RateLimitHeaders, require_within_limit};
use crate::auth::Denied;
use crate::domain::Scope;
use crate::http::extract::{Caller, bearer};
use crate::http::problem::{ApiError, Code};
use crate::http::state::SecurityConfig;

/// What a route requires of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Public,
    /// The events token, which [`EventSender`](crate::http::extract::EventSender) checks.
    Events,
    /// An authenticated caller with this scope.
    Needs(Scope),
}

/// Calls the handler if the caller has the scope, is within its rate limit and accepts the
/// route's media type. It runs before the extractors, so that an unauthenticated caller learns
/// nothing about its request.
pub(in crate::http) async fn authorize<B: MessageBody + 'static>(
    access: Access,
    produces: Produces,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    match check(access, produces, &request).await {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        // The response carries the error, which the errors middleware logs and renders.
        Err(error) => Ok(request.error_response(error).map_into_right_body()),
    }
}

async fn check(
    access: Access,
    produces: Produces,
    request: &ServiceRequest,
) -> Result<(), ApiError> {
    if let Access::Needs(scope) = access {
        let caller = authenticate(scope, request).await?;
        request.extensions_mut().insert(caller);
    }
    produces.check(request.headers())
}

async fn authenticate(scope: Scope, request: &ServiceRequest) -> Result<Caller, ApiError> {
    let security = request.app_data::<Data<SecurityConfig>>();
    let security = security.ok_or_else(|| ApiError::new(Code::Internal))?;
    let token = bearer(request.headers());
    let identity = security.auth.identify(token).await.map_err(ApiError::from)?;
    if let Some(limit) = &security.rate_limit {
        let status = limit.check(&identity.owner);
        request.extensions_mut().insert(RateLimitHeaders::from(status));
        require_within_limit(status)?;
    }
    if !identity.scopes.has(scope) {
        return Err(ApiError::forbidden(scope));
    }
    Ok(Caller { owner: identity.owner })
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Missing => {
                Self::unauthorized("Send a token as Authorization: Bearer TOKEN", false)
            }
            Denied::Invalid(reason) => Self::unauthorized(reason, true),
            Denied::Unavailable => Self::new(Code::Unavailable).because(denied),
            Denied::Db(error) => error.into(),
        }
    }
}
