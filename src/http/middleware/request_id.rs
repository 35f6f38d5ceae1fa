//! The id of a request: the client's `X-Request-Id` if it is safe to log, otherwise a new one.

use std::fmt;
use std::future::{Ready, ready};

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use uuid::Uuid;

use crate::http::problem::{ApiError, Code};
use crate::http::state::HttpState;

/// The name of the header.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The maximum length of a client's id: four UUIDs with separators.
const MAX_LEN: usize = 144;

/// The id of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's id, if it is printable ASCII of at most [`MAX_LEN`] bytes.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let text = value.to_str().ok()?;
        let printable = text.bytes().all(|b| (0x20..0x7f).contains(&b));
        let fits = (1..=MAX_LEN).contains(&text.len());
        (fits && printable).then(|| Self(value.clone()))
    }

    /// The id of an incoming request. The first call sets it.
    pub(in crate::http) fn of(request: &ServiceRequest) -> Self {
        if let Some(id) = request.extensions().get::<Self>() {
            return id.clone();
        }
        let from_client = request.headers().get(REQUEST_ID).and_then(Self::parse);
        let id = from_client.or_else(|| Self::generate(request));
        let id = id.unwrap_or(Self(HeaderValue::from_static("none")));
        request.extensions_mut().insert(id.clone());
        id
    }

    fn generate(request: &ServiceRequest) -> Option<Self> {
        let state = request.app_data::<Data<HttpState>>()?;
        let mut buffer = Uuid::encode_buffer();
        let text = state.app.ids.uuid().hyphenated().encode_lower(&mut buffer);
        HeaderValue::from_str(text).ok().map(Self)
    }

    /// The id of a request that a handler processes.
    fn of_handled(request: &HttpRequest) -> Result<Self, ApiError> {
        let id = request.extensions().get::<Self>().cloned();
        id.ok_or_else(|| ApiError::new(Code::Internal).because("the request has no id"))
    }

    /// The header of the response.
    pub(in crate::http) fn header(&self) -> (HeaderName, HeaderValue) {
        (REQUEST_ID, self.0.clone())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Every constructor checks that the value is ASCII.
        self.0.to_str().unwrap_or_default()
    }
}

impl FromRequest for RequestId {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Self::of_handled(request))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_printable_ids_are_accepted() {
        let parse = |text: &[u8]| {
            HeaderValue::from_bytes(text).ok().and_then(|value| RequestId::parse(&value))
        };
        assert_eq!(parse(b"abc-123").map(|id| id.to_string()), Some("abc-123".to_owned()));
        for bad in [&b""[..], b"tab\there", "é".as_bytes(), &[b'a'; MAX_LEN + 1]] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
