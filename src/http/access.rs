//! What a route asks of its callers. It is declared where the route is (`routes`): without it
//! a route does not compile, and the document says the same.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, FromRequest, HttpMessage as _, HttpRequest};

use super::accept::Gives;
use super::extract::{Caller, Intake};
use super::problem::{ApiError, Code};
use super::rate_limit::{RateLimitHeaders, require_within_limit};
use crate::auth::rate_limit::RateLimit;
use crate::auth::{Authenticator, Denied};
use crate::db::Seal;
use crate::domain::{ConcurrencyLimit, LimitReached, Permit, Scope};

/// What a route asks of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Public,
    /// The token of [`Intake`], which the handler's own extractor checks.
    Events,
    /// A known caller with this scope.
    Needs(Scope),
}

/// Who is let in, and how much of it at once.
pub struct Protection {
    /// Who sends events of buckets.
    pub intake: Intake,
    /// Tells callers apart.
    pub auth: Arc<Authenticator>,
    /// How many requests a second a caller may send; `None` is no limit.
    pub rate_limit: Option<RateLimit>,
    /// ConcurrencyLimit for files that come through this service.
    pub direct_uploads: Arc<ConcurrencyLimit>,
    /// What seals cursors.
    pub seal: Seal,
    /// Whose pages may call; `*` is everybody's, an empty list nobody's.
    pub cors_origins: Vec<String>,
    /// A certificate and its key, where TLS does not end before.
    pub tls: Option<rustls::ServerConfig>,
}

impl Default for Protection {
    /// Open to everybody, without limits.
    fn default() -> Self {
        Self {
            intake: Intake::new(None),
            auth: Arc::new(Authenticator::open()),
            rate_limit: None,
            direct_uploads: Arc::new(ConcurrencyLimit::unlimited()),
            seal: Seal::new(rand::random()),
            cors_origins: Vec::new(),
            tls: None,
        }
    }
}

impl From<Intake> for Protection {
    fn from(intake: Intake) -> Self {
        Self { intake, ..Self::default() }
    }
}

/// Lets a request to its handler that has the scope, is within its caller's rate and can read
/// the answer. It stands before the extractors: who is not known is told nothing about the
/// request.
pub(super) async fn admit<B: MessageBody + 'static>(
    access: Access,
    gives: Gives,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<actix_web::body::EitherBody<B>>, Error> {
    match check(access, gives, &request).await {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        // The error goes along, for the edge to log and to render.
        Err(error) => Ok(request.error_response(error).map_into_right_body()),
    }
}

async fn check(access: Access, gives: Gives, request: &ServiceRequest) -> Result<(), ApiError> {
    if let Access::Needs(scope) = access {
        let caller = identify(scope, request).await?;
        request.extensions_mut().insert(caller);
    }
    gives.acceptable(request.headers())
}

async fn identify(scope: Scope, request: &ServiceRequest) -> Result<Caller, ApiError> {
    let protection = request.app_data::<Data<Protection>>();
    let protection = protection.ok_or_else(|| ApiError::new(Code::Internal))?;
    let shown = bearer(request.headers());
    let identity = protection.auth.identify(shown).await.map_err(ApiError::from)?;
    if let Some(limit) = &protection.rate_limit {
        let status = limit.check(&identity.owner);
        request.extensions_mut().insert(RateLimitHeaders::from(status));
        require_within_limit(status)?;
    }
    if !identity.scopes.has(scope) {
        return Err(ApiError::forbidden(scope));
    }
    Ok(Caller { owner: identity.owner })
}

/// The caller's place among the files that come through this service; given back when it is
/// dropped.
pub struct DirectUploadPermit(#[expect(dead_code, reason = "held")] Permit);

impl FromRequest for DirectUploadPermit {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(direct_place(request).map(Self))
    }
}

fn direct_place(request: &HttpRequest) -> Result<Permit, ApiError> {
    let protection = request.app_data::<Data<Protection>>();
    let protection = protection.ok_or_else(|| ApiError::new(Code::Internal))?;
    let owner = Caller::of(request)?.owner;
    protection.direct_uploads.acquire(&owner).map_err(|reached| match reached {
        LimitReached::Total => {
            ApiError::saying(Code::Busy, "As many files come through here as may")
        }
        LimitReached::PerOwner(limit) => {
            ApiError::over_share(limit, "files through the service at once")
        }
    })
}

/// What stands behind `Authorization: Bearer`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Missing => {
                Self::unauthorized("Send a token as Authorization: Bearer TOKEN", false)
            }
            Denied::Invalid(why) => Self::unauthorized(why, true),
            Denied::Unavailable => Self::new(Code::Unavailable).because(denied),
            Denied::Db(error) => error.into(),
        }
    }
}
