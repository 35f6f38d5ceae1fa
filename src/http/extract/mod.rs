//! Extractors: each parses one part of a request into a typed value, once, or returns an
//! [`ApiError`](super::problem::ApiError) that names the field. Handlers see no raw text.

pub mod batch;
pub mod caller;
pub mod digests;
pub mod direct_upload_permit;
pub mod download;
pub mod event_auth;
mod event_message;
pub mod file;
mod form;
pub mod id;
pub mod idempotency;
pub mod json;
pub mod links;
mod partial;
pub mod query;
mod subject;
pub mod text;
mod text_body;
mod unread_body;

pub use batch::{Batch, ItemLimit};
pub use caller::{Caller, UploadCaller};
pub use digests::{DigestParams, Digests};
pub use direct_upload_permit::DirectUploadPermit;
pub use download::{Download, DownloadParams, DownloadResponses};
pub use event_auth::EventSender;
pub use event_message::EventMessage;
pub use file::FileBody;
pub use id::Id;
pub use idempotency::{IdempotencyParams, Idempotent};
pub use json::{Json, OptionalJson};
pub use links::Links;
pub use query::Query;
pub use subject::{SubjectParams, SubjectPath};
pub use text_body::TextBody;
pub use unread_body::UnreadBody;

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::Data;

use super::problem::{ApiError, Code};
use super::state::HttpSettings;

/// The server's settings, from the application data of the request.
fn settings(request: &HttpRequest) -> Result<HttpSettings, ApiError> {
    let settings = request.app_data::<Data<HttpSettings>>();
    settings.map(|settings| ***settings).ok_or_else(|| ApiError::new(Code::Internal))
}

/// The media type of the request without its parameters, in lower case.
fn essence(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Refuses a compressed body, because the compressed bytes would be read as the content.
fn refuse_encoded(request: &HttpRequest) -> Result<(), ApiError> {
    match request.headers().get(header::CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(ApiError::saying(
                Code::MediaType,
                "Content-Encoding is not supported; send the body uncompressed",
            ))
        }
        _ => Ok(()),
    }
}

/// The token in `Authorization: Bearer TOKEN`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}
