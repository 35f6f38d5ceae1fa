//! `Idempotency-Key`.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::HeaderName;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use sha2::{Digest as _, Sha256};

use crate::app::idempotency::IdempotencyKey;
use crate::http::problem::ApiError;

/// The header's name.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const MAX_LEN: usize = 255;

/// The digest of the body, as [`json`](super::json) leaves it with the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyDigest(pub [u8; 32]);

/// The key of a creating request, where it has one.
#[derive(Debug)]
pub struct Once {
    key: Option<String>,
    request: HttpRequest,
}

impl Once {
    /// The key with the request that it came with. The body must have been read.
    pub fn key(self) -> Option<IdempotencyKey> {
        let Self { key, request } = self;
        let key = key?;
        let body = request.extensions().get::<BodyDigest>().map(|digest| digest.0);
        let mut hash = Sha256::new();
        for part in [request.method().as_str(), request.path(), request.query_string()] {
            hash.update(part);
            hash.update([0]);
        }
        hash.update(body.unwrap_or_default());
        let fingerprint = hex::encode(hash.finalize());
        Some(IdempotencyKey { key, fingerprint })
    }
}

impl FromRequest for Once {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let mut given = request.headers().get_all(IDEMPOTENCY_KEY);
        let key = match (given.next(), given.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => sound(value.as_bytes()).map(Some),
            (Some(_), Some(_)) => Err("Must be given once only".to_owned()),
        };
        let key = key.map_err(|sentence| ApiError::field("Idempotency-Key", sentence));
        ready(key.map(|key| Self { key, request: request.clone() }))
    }
}

fn sound(bytes: &[u8]) -> Result<String, String> {
    let text = bytes.iter().all(u8::is_ascii_graphic).then(|| String::from_utf8_lossy(bytes));
    let text = text.filter(|text| (1..=MAX_LEN).contains(&text.len()));
    text.map(std::borrow::Cow::into_owned)
        .ok_or_else(|| format!("Must be 1 to {MAX_LEN} printable ASCII characters without spaces"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutate::mutated;

    proptest! {
        #[test]
        fn a_key_is_taken_as_it_is_or_not_at_all(
            bytes in prop_oneof![
                mutated("[!-~]{1,255}"),
                mutated("[!-~]{250,255}"),
                prop::collection::vec(any::<u8>(), 0..300),
            ],
        ) {
            let fit = (1..=MAX_LEN).contains(&bytes.len()) && bytes.iter().all(|b| (b'!'..=b'~').contains(b));
            match sound(&bytes) {
                Ok(key) => prop_assert!(fit && key.as_bytes() == bytes),
                Err(_) => prop_assert!(!fit),
            }
        }
    }
}
