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
use super::token_prefix::PathToken;
use crate::auth::{Denied, UploadTokenVerifier};
use crate::domain::{Owner, Scope};
use crate::http::extract::{UploadCaller, bearer};
use crate::http::problem::{ApiError, Code};
use crate::http::state::{HttpState, SecurityConfig};

/// What a route requires of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Public,
    /// The events token, which [`EventSender`](crate::http::extract::EventSender) checks.
    Events,
    /// An authenticated caller with this scope. Upload tokens are refused.
    Needs(Scope),
    /// An authenticated caller with this scope, or an upload token. The handler takes an
    /// [`UploadCaller`], so that a token can be used only for its own uploads.
    NeedsOrToken(Scope),
}

/// Calls the handler if the caller has the scope, is within its rate limit and accepts the route's
/// media type. It runs before the extractors, so that an unauthenticated caller gets no errors
/// about its input.
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
    match access {
        // The prefix `/t/{token}` is accepted only for routes that upload tokens may use.
        Access::Public | Access::Events if request.extensions().contains::<PathToken>() => {
            return Err(ApiError::not_for_upload_tokens());
        }
        Access::Public | Access::Events => {}
        Access::Needs(scope) | Access::NeedsOrToken(scope) => {
            authenticate(access, scope, request).await?;
        }
    }
    produces.check(request.headers())
}

/// Checks the token, the rate limit and the scope. Records the caller for the extractors and the
/// log.
async fn authenticate(
    access: Access,
    scope: Scope,
    request: &ServiceRequest,
) -> Result<(), ApiError> {
    let internal = || ApiError::new(Code::Internal);
    let security = request.app_data::<Data<SecurityConfig>>().ok_or_else(internal)?;
    // The token in the path is the credential, even if there is a header.
    let in_path = request.extensions().get::<PathToken>().cloned();
    let presented = match &in_path {
        Some(token) => Some(token.expose()),
        None => bearer(request.headers()),
    };
    let is_upload_token =
        in_path.is_some() || presented.is_some_and(UploadTokenVerifier::recognizes);
    if is_upload_token {
        let state = request.app_data::<Data<HttpState>>().ok_or_else(internal)?;
        let token = state.app.token_verifier.identify(presented.unwrap_or_default()).await?;
        require_rate(security, &token.owner, request)?;
        request.extensions_mut().insert(UploadCaller::from(token));
        return match access {
            Access::NeedsOrToken(_) => Ok(()),
            _ => Err(ApiError::not_for_upload_tokens()),
        };
    }
    let identity = security.auth.identify(presented).await.map_err(ApiError::from)?;
    require_rate(security, &identity.owner, request)?;
    if !identity.scopes.has(scope) {
        return Err(ApiError::forbidden(scope));
    }
    request.extensions_mut().insert(UploadCaller::from(identity));
    Ok(())
}

fn require_rate(
    security: &SecurityConfig,
    owner: &Owner,
    request: &ServiceRequest,
) -> Result<(), ApiError> {
    let Some(limit) = &security.rate_limit else { return Ok(()) };
    let status = limit.check(owner);
    request.extensions_mut().insert(RateLimitHeaders::from(status));
    require_within_limit(status)
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
