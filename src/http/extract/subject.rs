//! The subject in a path.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use percent_encoding::percent_decode_str;
use utoipa::IntoParams;

use crate::domain::Subject;
use crate::domain::subject::SubjectError;
use crate::http::problem::ApiError;

/// The subject in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents the parameter")]
pub struct SubjectParams {
    /// The subject.
    #[param(
        min_length = 1,
        max_length = 200,
        pattern = "^[A-Za-z0-9._~:@-]+$",
        example = "album:42:cover"
    )]
    subject: String,
}

/// The segment `{subject}` of the path. An invalid subject returns 400.
#[derive(Debug, Clone)]
pub struct SubjectPath(pub Subject);

impl FromRequest for SubjectPath {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        // Clients may encode `:` and `@`. Bytes that are not UTF-8 become characters that are
        // refused.
        let text = request.match_info().get("subject").unwrap_or_default();
        let text = percent_decode_str(text).decode_utf8_lossy();
        let refuse = |error: SubjectError| ApiError::field("subject", error.to_string());
        ready(text.parse().map(Self).map_err(refuse))
    }
}
