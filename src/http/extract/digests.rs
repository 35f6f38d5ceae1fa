//! Checksums in headers: `Content-Digest` and `Repr-Digest` (RFC 9530)
//! and `Content-MD5` (RFC 1864).
//!
//! Bodies are not encoded, so the content is the representation, and both digests cover the same
//! bytes. Only `sha-256` of RFC 9530 is checked; section 4 allows ignoring other algorithms.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use utoipa::IntoParams;

use super::essence;
use crate::domain::{Algorithm, Checksum};
use crate::http::problem::ApiError;

/// The headers with the [`Digests`].
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documents the headers")]
pub struct DigestParams {
    /// RFC 9530. The sha-256 of the file is checked.
    #[param(
        rename = "Content-Digest",
        example = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"
    )]
    content_digest: Option<String>,
    /// Like `Content-Digest`.
    #[param(rename = "Repr-Digest")]
    repr_digest: Option<String>,
    /// The base64 of the MD5, which is checked.
    #[param(rename = "Content-MD5")]
    content_md5: Option<String>,
}

/// The checksums of a raw body.
#[derive(Debug)]
pub struct Digests(pub Vec<Checksum>);

impl FromRequest for Digests {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(read(request))
    }
}

fn read(request: &HttpRequest) -> Result<Digests, ApiError> {
    let mut found = Vec::new();
    let form = essence(request).as_deref() == Some("multipart/form-data");
    for name in ["Content-Digest", "Repr-Digest", "Content-MD5"] {
        for value in request.headers().get_all(name) {
            if form {
                let sentence = "Not allowed with a multipart/form-data body, because the checksum \
                                would cover the whole form. Send the file itself as the body, or omit \
                                this header";
                return Err(ApiError::field(name, sentence));
            }
            let value = value.to_str().map_err(|_| malformed(name))?;
            let sums = if name == "Content-MD5" { md5(value).map(Some) } else { sha256(value) };
            found.extend(sums.map_err(|()| malformed(name))?);
        }
    }
    Ok(Digests(found))
}

fn malformed(name: &str) -> ApiError {
    let example = if name == "Content-MD5" {
        "Must be the base64 of 16 bytes"
    } else {
        "Must look like sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"
    };
    ApiError::field(name, example)
}

fn md5(value: &str) -> Result<Checksum, ()> {
    Checksum::parse(Algorithm::Md5, value.trim()).map_err(|_| ())
}

/// The `sha-256` of a dictionary of byte sequences (RFC 9651, sections 3.2 and 3.3.5). If a key
/// occurs twice, the last member is used.
fn sha256(dictionary: &str) -> Result<Option<Checksum>, ()> {
    let mut last = None;
    for member in dictionary.split(',') {
        let (key, value) = member.trim_matches([' ', '\t']).split_once('=').ok_or(())?;
        let item = value.split(';').next().unwrap_or_default().trim_end();
        let base64 =
            item.strip_prefix(':').and_then(|remaining| remaining.strip_suffix(':')).ok_or(())?;
        if key == "sha-256" {
            last = Some(Checksum::parse(Algorithm::Sha256, base64).map_err(|_| ())?);
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutate::mutated_text;

    fn dictionary() -> impl Strategy<Value = String> {
        any::<u64>().prop_map(|seed| {
            let sum = Checksum::of(Algorithm::Sha256, &seed.to_be_bytes());
            format!("sha-512=:AAAA:, sha-256=:{}:;a=1", sum.value())
        })
    }

    proptest! {
        #[test]
        fn an_accepted_digest_is_in_the_header_verbatim(
            text in prop_oneof![mutated_text(dictionary()), "\\PC{0,80}"],
        ) {
            if let Ok(Some(sum)) = sha256(&text) {
                let member = format!("sha-256=:{}:", sum.value());
                prop_assert!(text.contains(&member), "{}", sum.value());
            }
        }

        #[test]
        fn an_accepted_md5_is_in_the_header_verbatim(
            text in prop_oneof![
                mutated_text(any::<[u8; 8]>().prop_map(|b| Checksum::of(Algorithm::Md5, &b).value())),
                "[A-Za-z0-9+/]{22}==",
            ],
        ) {
            if let Ok(sum) = md5(&text) {
                prop_assert_eq!(sum.value(), text.trim());
            }
        }
    }

    #[test]
    fn the_sha_256_of_a_dictionary_is_read_and_other_algorithms_are_ignored() {
        let sum = Checksum::of(Algorithm::Sha256, b"x");
        let text = sum.value();
        for good in [
            format!("sha-256=:{text}:"),
            format!("sha-512=:AAAA:, sha-256=:{text}:;a=1"),
            format!(
                "sha-256=:{}:,\tsha-256=:{text}:",
                Checksum::of(Algorithm::Sha256, b"y").value()
            ),
        ] {
            assert_eq!(sha256(&good), Ok(Some(sum.clone())), "{good}");
        }
        assert_eq!(sha256("sha-512=:AAAA:"), Ok(None));
        for bad in ["", "sha-256", "sha-256=AAAA", "sha-256=:AAAA:", "sha-256=:!:", "a=:AA:,"] {
            assert_eq!(sha256(bad), Err(()), "{bad}");
        }
    }
}
