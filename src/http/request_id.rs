//! The id of a request: taken from the client where it is fit for a log, else made.

use std::fmt;

use actix_web::HttpMessage as _;
use actix_web::dev::ServiceRequest;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::Data;
use uuid::Uuid;

use super::HttpState;

/// The header's name.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken: four UUIDs.
const MAX_LEN: usize = 144;

/// The id of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Takes the client's id: printable ASCII of a bounded length, or nothing.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let text = value.to_str().ok()?;
        let printable = text.bytes().all(|b| (0x20..0x7f).contains(&b));
        let fits = (1..=MAX_LEN).contains(&text.len());
        (fits && printable).then(|| Self(value.clone()))
    }

    /// The id of a request on its way in, decided on the first call.
    pub(super) fn of(request: &ServiceRequest) -> Self {
        if let Some(id) = request.extensions().get::<Self>() {
            return id.clone();
        }
        let made = || {
            let state = request.app_data::<Data<HttpState>>();
            let made = state.map(|state| {
                let mut text = Uuid::encode_buffer();
                HeaderValue::from_str(state.app.ids.uuid().hyphenated().encode_lower(&mut text))
            });
            Self(made.and_then(Result::ok).unwrap_or(HeaderValue::from_static("none")))
        };
        let id = request.headers().get(REQUEST_ID).and_then(Self::parse).unwrap_or_else(made);
        request.extensions_mut().insert(id.clone());
        id
    }

    /// The header for the answer.
    pub(super) fn header(&self) -> (HeaderName, HeaderValue) {
        (REQUEST_ID, self.0.clone())
    }

    /// The id itself.
    pub fn as_str(&self) -> &str {
        // Only what is ASCII becomes an id.
        self.0.to_str().unwrap_or_default()
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
    fn only_short_printable_ids_are_taken() {
        let take = |text: &[u8]| {
            HeaderValue::from_bytes(text).ok().and_then(|value| RequestId::parse(&value))
        };
        assert_eq!(take(b"abc-123").map(|id| id.to_string()), Some("abc-123".to_owned()));
        for bad in [&b""[..], b"tab\there", "é".as_bytes(), &[b'a'; MAX_LEN + 1]] {
            assert_eq!(take(bad), None, "{bad:?}");
        }
    }
}
