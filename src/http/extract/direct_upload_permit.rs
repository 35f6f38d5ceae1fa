//! A permit for a direct upload. It limits the number of concurrent direct uploads.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};

use super::UploadCaller;
use crate::domain::{LimitReached, Permit};
use crate::http::problem::{ApiError, Code};
use crate::http::state::SecurityConfig;

/// The caller's permit for one direct upload. Dropping it releases the permit.
pub struct DirectUploadPermit(#[expect(dead_code, reason = "held until dropped")] Permit);

impl FromRequest for DirectUploadPermit {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(acquire(request).map(Self))
    }
}

fn acquire(request: &HttpRequest) -> Result<Permit, ApiError> {
    let security = request.app_data::<Data<SecurityConfig>>();
    let security = security.ok_or_else(|| ApiError::new(Code::Internal))?;
    let caller = UploadCaller::of(request)?;
    security.direct_uploads.acquire(caller.principal().owner()).map_err(|reached| match reached {
        LimitReached::Total => ApiError::saying(
            Code::Busy,
            "Too many concurrent direct uploads; retry after the seconds in Retry-After",
        ),
        LimitReached::PerOwner(limit) => {
            ApiError::over_owner_limit(limit, "concurrent direct uploads per owner")
        }
    })
}
