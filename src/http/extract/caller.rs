//! The authenticated caller, which [`access`](crate::http::middleware::access) determines.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};

use crate::auth::Identity;
use crate::domain::{Owner, Principal, UploadToken};
use crate::http::problem::{ApiError, Code};

/// A caller with all rights of its owner. Use cases take its owner, so that a caller cannot reach
/// the resources of others. If the request has an upload token, the extractor fails with 403.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The owner of everything that the request creates or reads.
    pub owner: Owner,
}

/// A caller of a route that upload tokens may use. It has no public owner: use cases take it as a
/// [`Principal`], so that an upload token can be used only for its own uploads.
#[derive(Debug, Clone)]
pub struct UploadCaller(Credential);

#[derive(Debug, Clone)]
enum Credential {
    Owner(Owner),
    Token(Arc<UploadToken>),
}

impl UploadCaller {
    /// The caller of this request. It is an internal error if the route declares no scope.
    pub fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let caller = request.extensions().get::<Self>().cloned();
        caller.ok_or_else(|| ApiError::new(Code::Internal).because("the route declares no scope"))
    }

    /// The principal for use cases.
    pub fn principal(&self) -> Principal<'_> {
        match &self.0 {
            Credential::Owner(owner) => owner.into(),
            Credential::Token(token) => (&**token).into(),
        }
    }
}

impl Caller {
    fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        match UploadCaller::of(request)?.0 {
            Credential::Owner(owner) => Ok(Self { owner }),
            Credential::Token(_) => Err(ApiError::not_for_upload_tokens()),
        }
    }
}

impl<'a> From<&'a UploadCaller> for Principal<'a> {
    fn from(caller: &'a UploadCaller) -> Self {
        caller.principal()
    }
}

impl From<Identity> for UploadCaller {
    fn from(identity: Identity) -> Self {
        Self(Credential::Owner(identity.owner))
    }
}

impl From<Arc<UploadToken>> for UploadCaller {
    fn from(token: Arc<UploadToken>) -> Self {
        Self(Credential::Token(token))
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}

impl FromRequest for UploadCaller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}
