//! Recognises a `multipart/form-data` body that was stored as the object.
//!
//! `curl -F file=@x.mp3 URL` wraps the file in a form (RFC 7578). A presigned PUT stores the whole
//! body, so the object contains boundary lines around the file and no player opens it. Only the
//! bytes are checked, because the stored content type is unreliable.

/// How many of the first bytes the check reads: a boundary line of at most 72 bytes (RFC 2046,
/// 5.1.1) and the header lines of the first part.
pub const ENVELOPE_PROBE_LEN: usize = 1024;

/// Whether `head`, the first bytes of an object, is the start of a form.
pub fn is_form_envelope(head: &[u8]) -> bool {
    let probe = &head[..head.len().min(ENVELOPE_PROBE_LEN)];
    let mut lines =
        probe.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let Some(first) = lines.next() else { return false };
    let boundary_line = first.len() > 2 && first.len() <= 72 && first.starts_with(b"--");
    boundary_line
        && lines
            .take_while(|line| !line.is_empty())
            .any(|line| starts_with_ignoring_case(line, b"content-disposition: form-data"))
}

fn starts_with_ignoring_case(line: &[u8], start: &[u8]) -> bool {
    line.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutate::mutated;

    /// A form as RFC 7578 and RFC 2046 allow it.
    fn form() -> impl Strategy<Value = Vec<u8>> {
        let boundary = "[0-9A-Za-z'()+_,./:=?-]{1,70}";
        let names = prop::sample::select(vec!["Content-Disposition", "content-disposition"]);
        let before = prop::option::of("[A-Za-z-]{1,20}: [ -~]{0,40}");
        (boundary, names, before, "[ -~]{0,60}", prop::collection::vec(any::<u8>(), 0..2000))
            .prop_map(|(boundary, name, before, more, file)| {
                let before = before.map(|line| format!("{line}\r\n")).unwrap_or_default();
                let head =
                    format!("--{boundary}\r\n{before}{name}: form-data; name=f{more}\r\n\r\n");
                let end = format!("\r\n--{boundary}--\r\n");
                [head.as_bytes(), &file, end.as_bytes()].concat()
            })
    }

    fn holds_the_header(head: &[u8]) -> bool {
        let head = head.to_ascii_lowercase();
        head.windows(30).any(|part| part == b"content-disposition: form-data")
    }

    proptest! {
        #[test]
        fn every_form_is_recognised(form in form()) {
            prop_assert!(is_form_envelope(&form));
        }

        #[test]
        fn a_form_starts_with_a_boundary_and_contains_the_header(
            bytes in prop_oneof![mutated(form()), prop::collection::vec(any::<u8>(), 0..200)],
        ) {
            let head = &bytes[..bytes.len().min(ENVELOPE_PROBE_LEN)];
            let is = is_form_envelope(&bytes);
            prop_assert_eq!(is, is_form_envelope(head), "only the first bytes count");
            prop_assert!(!is || head.starts_with(b"--") && holds_the_header(head));
        }
    }

    #[test]
    fn forms_of_curl_and_browsers_are_recognised() {
        let curl = b"--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\nID3";
        let chrome =
            b"------WebKitFormBoundaryABC\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n";
        let other_header_first =
            b"--x\r\nContent-Type: audio/mpeg\r\ncontent-disposition: Form-Data; name=f\r\n\r\n";
        for form in [&curl[..], chrome, other_header_first] {
            assert!(is_form_envelope(form));
        }
    }

    #[test]
    fn a_file_that_is_similar_to_a_form_is_not_one() {
        let long = [b'-'; 100];
        for file in [
            &b""[..],
            b"--",
            b"ID3\x04\x00",
            b"-- a comment in SQL\r\n\r\nContent-Disposition: form-data",
            b"Content-Disposition: form-data",
            &long,
        ] {
            assert!(!is_form_envelope(file), "{file:?}");
        }
    }
}
