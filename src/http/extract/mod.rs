//! What a request says, as typed values. What a client sends becomes a value here, once,
//! or a problem that names the field; handlers see no raw text.

pub mod caller;
pub mod digests;
pub mod file;
pub mod id;
pub mod idempotency;
pub mod json;
pub mod query;
pub mod sender;
pub mod text;

pub use caller::Caller;
pub use digests::Digests;
pub use file::FileBody;
pub use id::Id;
pub use idempotency::Once;
pub use json::{Json, OptionalJson};
pub use query::Query;
pub use sender::{Intake, Sender};

use actix_web::HttpRequest;
use actix_web::http::header;
use actix_web::web::Data;

use super::HttpSettings;
use super::problem::{ApiError, Code};

/// The server's settings; they are there in every request.
fn settings(request: &HttpRequest) -> Result<HttpSettings, ApiError> {
    let settings = request.app_data::<Data<HttpSettings>>();
    settings.map(|settings| ***settings).ok_or_else(|| ApiError::new(Code::Internal))
}

/// The essence of the request's media type, in lower case.
fn essence(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Bodies are taken as they are: one that is packed would be read as something else.
fn refuse_encoded(request: &HttpRequest) -> Result<(), ApiError> {
    match request.headers().get(header::CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(ApiError::saying(Code::MediaType, "Content-Encoding is not supported"))
        }
        _ => Ok(()),
    }
}
