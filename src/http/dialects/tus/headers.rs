//! The headers of tus.

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Refusal;
use crate::domain::Timestamp;
use crate::domain::tus::PieceChecksum;
use crate::http::problem::ApiError;

/// The only supported version of the protocol.
pub(super) const VERSION: &str = "1.0.0";

/// The supported extensions of the protocol.
pub(super) const EXTENSIONS: &str =
    "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination";

pub(super) const TUS_RESUMABLE: &str = "Tus-Resumable";
pub(super) const TUS_VERSION: &str = "Tus-Version";
pub(super) const TUS_EXTENSION: &str = "Tus-Extension";
pub(super) const UPLOAD_OFFSET: &str = "Upload-Offset";
pub(super) const UPLOAD_LENGTH: &str = "Upload-Length";
pub(super) const UPLOAD_DEFER_LENGTH: &str = "Upload-Defer-Length";
pub(super) const UPLOAD_METADATA: &str = "Upload-Metadata";
pub(super) const UPLOAD_EXPIRES: &str = "Upload-Expires";
pub(super) const UPLOAD_CHECKSUM: &str = "Upload-Checksum";
pub(super) const UPLOAD_CONCAT: &str = "Upload-Concat";

/// The maximum length of the metadata, in bytes.
const MAX_METADATA: usize = 8192;

/// The media type of a body that contains bytes of the file.
const BYTES: &str = "application/offset+octet-stream";

/// Refuses a request with another version, or without a version.
pub(super) fn require_version(request: &HttpRequest) -> Result<(), Refusal> {
    match text(request.headers(), TUS_RESUMABLE) {
        Some(VERSION) => Ok(()),
        _ => Err(Refusal::Status(412, format!("Send Tus-Resumable: {VERSION}"))),
    }
}

/// Returns a header as text. `None` if it is missing or contains characters that are not ASCII.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The checksum of the bytes in the body.
pub(super) fn checksum(headers: &HeaderMap) -> Result<Option<PieceChecksum>, Refusal> {
    if !headers.contains_key(UPLOAD_CHECKSUM) {
        return Ok(None);
    }
    let checksum = text(headers, UPLOAD_CHECKSUM).and_then(PieceChecksum::parse);
    let sentence = "Must be sha1, sha256 or md5, a space, and the checksum in base64";
    checksum.map(Some).ok_or_else(|| ApiError::field(UPLOAD_CHECKSUM, sentence).into())
}

/// Whether the body contains bytes of the file.
pub(super) fn has_bytes(headers: &HeaderMap) -> bool {
    let name = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    name.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(BYTES)
}

/// The refusal of a body with another media type.
pub(super) fn other_media_type() -> Refusal {
    Refusal::Status(415, format!("Send Content-Type: {BYTES}"))
}

/// Formats a time for a header.
pub(super) fn http_date(at: Timestamp) -> String {
    at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The pairs of `Upload-Metadata`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    /// The header, exactly as the client sent it.
    pub raw: Option<String>,
    /// The pairs, decoded.
    pub pairs: Vec<(String, String)>,
}

impl Metadata {
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        if !headers.contains_key(UPLOAD_METADATA) {
            return Ok(Self::default());
        }
        let raw = text(headers, UPLOAD_METADATA).filter(|raw| raw.len() <= MAX_METADATA);
        let pairs = raw.and_then(|raw| {
            let pairs = raw.split(',').map(str::trim).filter(|pair| !pair.is_empty());
            pairs.map(pair).collect::<Option<Vec<_>>>()
        });
        let (Some(raw), Some(pairs)) = (raw, pairs) else {
            let sentence = format!(
                "Must be pairs separated by commas, at most {MAX_METADATA} bytes in total. A pair is a \
                 name, a space, and the base64 of the UTF-8 value"
            );
            return Err(ApiError::field(UPLOAD_METADATA, sentence).into());
        };
        Ok(Self { raw: Some(raw.to_owned()), pairs })
    }

    /// Removes and returns the first of these names that has a value.
    pub(super) fn take(&mut self, names: &[&str]) -> Option<String> {
        let mut found = None;
        for name in names {
            while let Some(at) = self.pairs.iter().position(|(known, _)| known == name) {
                let (_, value) = self.pairs.remove(at);
                found = found.or(Some(value).filter(|value| !value.trim().is_empty()));
            }
        }
        found
    }
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once(' ').unwrap_or((text, ""));
    let value = STANDARD.decode(value.trim()).ok()?;
    Some((name.to_owned(), String::from_utf8(value).ok()?))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;
    use crate::http::dialects::number;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let name = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn metadata_are_pairs_of_a_name_and_base64() {
        let read = |text: &str| Metadata::read(&headers(UPLOAD_METADATA, text));
        let mut metadata = read("filename YS5tcDM=,name Yi5tcDM=, empty ,flag").unwrap();
        assert_eq!(metadata.take(&["filename", "name"]).as_deref(), Some("a.mp3"));
        assert_eq!(metadata.pairs.len(), 2, "{metadata:?}");
        assert_eq!(metadata.take(&["empty", "missing"]), None);
        assert_eq!(read("").unwrap().pairs, []);
        for bad in ["filename %", "filename a b", "filename /w==", &"a".repeat(9000)] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_has_only_digits_and_fits_a_signed_64_bit_integer() {
        let read = |text: &str| number(&headers(UPLOAD_OFFSET, text), UPLOAD_OFFSET);
        assert_eq!(read("0").unwrap(), Some(0));
        assert_eq!(number(&HeaderMap::new(), UPLOAD_OFFSET).unwrap(), None);
        for bad in ["", "-1", "+1", "1.0", "0x1", "9223372036854775808", " 1 2"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_date_has_the_format_of_http() {
        let at = "2026-11-30T18:04:05Z".parse().unwrap();
        assert_eq!(http_date(at), "Mon, 30 Nov 2026 18:04:05 GMT");
    }
}
