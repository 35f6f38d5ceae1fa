//! Recognises a `multipart/form-data` body that was stored as if it were the file.
//!
//! `curl -F file=@x.mp3 URL` wraps the bytes in a form (RFC 7578). A presigned PUT stores
//! whatever it is sent, so the bucket then holds boundary lines around the file and no
//! player opens it. The check looks at the bytes alone: the content type is the client's
//! word.

/// How many of an object's first bytes the check needs: a boundary line of at most 72
/// bytes (RFC 2046, 5.1.1) and the first part's header lines.
pub const ENVELOPE_PROBE_LEN: usize = 1024;

/// Whether `head`, the first bytes of an object, opens a form.
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
    use super::*;

    #[test]
    fn what_curl_and_browsers_send_is_recognised() {
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
    fn a_file_that_only_looks_like_one_is_not() {
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
