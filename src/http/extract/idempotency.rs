//! `Idempotency-Key`.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::{FromRequest, HttpRequest};
use sha2::{Digest as _, Sha256};
use utoipa::IntoParams;

use super::json::{self, FromBody};
use crate::app::idempotency::IdempotencyKey;
use crate::http::problem::ApiError;

/// The name of the header.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const MAX_LEN: usize = 255;

/// The header with the key.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documents the header")]
pub struct IdempotencyParams {
    /// 1 to 255 printable ASCII characters. Repeating a request with the same key returns the same
    /// resource, for 24 hours.
    #[param(rename = "Idempotency-Key")]
    idempotency_key: Option<String>,
}

/// The body of a creating request ([`Json`](super::Json) or [`OptionalJson`](super::OptionalJson))
/// with the request's `Idempotency-Key`, if there is one. The handler passes the key to
/// [`App::idempotent`](crate::app::App::idempotent).
#[derive(Debug)]
pub struct Idempotent<B> {
    /// The key and the fingerprint of the request.
    pub key: Option<IdempotencyKey>,
    /// The body.
    pub body: B,
}

impl<B: FromBody + 'static> FromRequest for Idempotent<B> {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let key = key(request.headers())?;
            let bytes = json::read::<B>(&request, payload).await?;
            let key =
                key.map(|key| IdempotencyKey { key, fingerprint: fingerprint(&request, &bytes) });
            Ok(Self { key, body: B::from_body(&bytes)? })
        })
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY);
    let key = match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => parse(value.as_bytes()).map(Some),
        (Some(_), Some(_)) => Err("Must be given only once".to_owned()),
    };
    key.map_err(|sentence| ApiError::field("Idempotency-Key", sentence))
}

/// A hash of everything that must be the same in all requests with one key.
fn fingerprint(request: &HttpRequest, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [request.method().as_str(), request.path(), request.query_string()] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(Sha256::digest(body));
    hex::encode(hash.finalize())
}

fn parse(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).ok();
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
    let text = text.filter(|text| (1..=MAX_LEN).contains(&text.len()));
    text.map(str::to_owned)
        .ok_or_else(|| format!("Must be 1 to {MAX_LEN} printable ASCII characters without spaces"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutate::mutated;

    proptest! {
        #[test]
        fn a_key_is_accepted_unchanged_or_refused(
            bytes in prop_oneof![
                mutated("[!-~]{1,255}"),
                mutated("[!-~]{250,255}"),
                prop::collection::vec(any::<u8>(), 0..300),
            ],
        ) {
            let valid = (1..=MAX_LEN).contains(&bytes.len())
                && bytes.iter().all(|b| (b'!'..=b'~').contains(b));
            match parse(&bytes) {
                Ok(key) => prop_assert!(valid && key.as_bytes() == bytes),
                Err(_) => prop_assert!(!valid),
            }
        }
    }
}
