//! Refuses a request with only a part of a file.
//!
//! Some clients split a file and send its parts in several requests, with the number of the part in
//! headers or form fields. A direct upload is one request with the whole file. Without this check,
//! a part would be stored as the whole file.

use actix_web::http::header::HeaderMap;

use crate::app::AppError;

const FIX: &str = "send the whole file in one request, or use a multipart upload";

/// Headers of partial bodies, and the only value of each that is possible for a whole file.
const HEADERS: [(&str, Option<&str>); 4] = [
    // RFC 9110, section 14.5.
    ("Content-Range", None),
    // Resumable uploads for HTTP (current and earlier drafts), and tus.
    ("Upload-Offset", None),
    ("Upload-Complete", Some("?1")),
    ("Upload-Incomplete", Some("?0")),
];

/// Form fields of clients that split files, and the largest value of each that is possible for a
/// whole file.
const FIELDS: [(&str, u64); 12] = [
    // Dropzone.
    ("dzchunkindex", 0),
    ("dzchunkbyteoffset", 0),
    ("dztotalchunkcount", 1),
    // Resumable.js and flow.js.
    ("resumableChunkNumber", 1),
    ("resumableTotalChunks", 1),
    ("flowChunkNumber", 1),
    ("flowTotalChunks", 1),
    // Fine Uploader.
    ("qqpartindex", 0),
    ("qqpartbyteoffset", 0),
    ("qqtotalparts", 1),
    // Plupload.
    ("chunk", 0),
    ("chunks", 1),
];

/// Refuses the headers of a partial body, in a request or in a part of a form.
pub(super) fn refuse_partial_headers(headers: &HeaderMap) -> Result<(), AppError> {
    for (name, whole) in HEADERS {
        for value in headers.get_all(name) {
            let value = String::from_utf8_lossy(value.as_bytes());
            // A structured value can have parameters.
            let bare = value.split(';').next().unwrap_or_default().trim();
            if whole != Some(bare) {
                let value = value.escape_debug();
                let sentence = format!("`{value}` is the value of a part of a file; {FIX}");
                return Err(AppError::field(name, sentence));
            }
        }
    }
    Ok(())
}

/// Refuses a form field with the number of a part of a file. `value` may be cut after
/// [`MAX_VALUE_LEN`] bytes.
pub(super) fn refuse_partial_field(name: &str, value: &[u8]) -> Result<(), AppError> {
    let Some((name, most)) = FIELDS.into_iter().find(|(field, _)| *field == name) else {
        return Ok(());
    };
    let value = String::from_utf8_lossy(value);
    if value.trim().parse::<u64>().is_ok_and(|number| number <= most) {
        return Ok(());
    }
    let value = value.escape_debug();
    let sentence =
        format!("`{value}` is not allowed: for a whole file this field is at most {most}; {FIX}");
    Err(AppError::field(name, sentence))
}

/// At most this many bytes of a field's value are checked. The value should be a `u64`, which has
/// at most 20 digits.
pub(super) const MAX_VALUE_LEN: usize = 24;

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn header_passes(name: &'static str, value: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        refuse_partial_headers(&headers).is_ok()
    }

    #[test]
    fn headers_of_a_partial_body_are_refused() {
        for (name, value) in [
            ("content-range", "bytes 0-599999/1668010"),
            ("upload-offset", "600000"),
            ("upload-complete", "?0"),
            ("upload-complete", "no"),
            ("upload-incomplete", "?1"),
        ] {
            assert!(!header_passes(name, value), "{name}: {value}");
        }
        assert!(header_passes("upload-complete", "?1;a=1"));
        assert!(header_passes("upload-incomplete", "?0"));
        assert!(header_passes("range", "bytes=0-1"));
    }

    #[test]
    fn fields_of_more_than_one_chunk_are_refused() {
        for (name, most) in FIELDS {
            let passes = |value: &str| refuse_partial_field(name, value.as_bytes()).is_ok();
            assert!(passes(&most.to_string()) && passes("0"), "{name}");
            assert!(!passes(&(most + 1).to_string()) && !passes("x") && !passes(""), "{name}");
        }
        assert!(refuse_partial_field("title", b"7").is_ok());
    }
}
