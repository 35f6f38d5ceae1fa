//! HTML, XML and formats based on XML.

use super::detected::Detected;

/// Tags that make a browser treat text as HTML (WHATWG MIME Sniffing, 7.1), in lower case.
const HTML_TAGS: &[&str] = &[
    "!doctype html",
    "html",
    "head",
    "script",
    "iframe",
    "h1",
    "div",
    "font",
    "table",
    "a",
    "style",
    "title",
    "b",
    "body",
    "br",
    "p",
];

const XML: &str = "application/xml";
const SVG: &str = "image/svg+xml";
const XHTML: &str = "application/xhtml+xml";

/// Detects markup at the start of text.
pub(super) fn detect(head: &[u8]) -> Option<Detected> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    if !text.starts_with(b"<") {
        return None;
    }
    if text.starts_with(b"<?xml") {
        return Some(match root(text) {
            Some(b"svg") => Detected::new([SVG, XML]),
            Some(b"html") => Detected::new([XHTML, XML]),
            Some(_) => Detected::new([XML]).with_suffix("+xml"),
            None => Detected::new([XML, SVG, XHTML]).with_suffix("+xml"),
        });
    }
    if is_html(text) {
        return Some(Detected::new(["text/html"]));
    }
    (root(text)? == b"svg").then(|| Detected::new([SVG, XML]))
}

/// Whether the text starts with an HTML tag: white space or `>` must follow the name.
fn is_html(text: &[u8]) -> bool {
    HTML_TAGS.iter().any(|tag| {
        let name = text.get(1..=tag.len());
        name.is_some_and(|name| name.eq_ignore_ascii_case(tag.as_bytes()))
            && text.get(tag.len() + 1).is_some_and(|b| *b == b'>' || b.is_ascii_whitespace())
    })
}

/// The local name of the root element. `None` if it is after the bytes that were read.
fn root(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = text.trim_ascii_start();
        let end: &[u8] = match text {
            [b'<', b'?', ..] => b"?>",
            [b'<', b'!', b'-', b'-', ..] => b"-->",
            [b'<', b'!', ..] => {
                // An internal subset in brackets contains declarations with `>`.
                let close = text.iter().position(|b| *b == b'>')?;
                let subset = text[..close].contains(&b'[');
                if subset { b"]>" } else { b">" }
            }
            [b'<', name @ ..] => {
                let end = name.iter().position(|b| b"> \t\r\n/".contains(b))?;
                let name = &name[..end];
                let local = name.iter().rposition(|b| *b == b':').map_or(0, |colon| colon + 1);
                return Some(&name[local..]);
            }
            _ => return None,
        };
        let at = text.windows(end.len()).position(|part| part == end)?;
        text = &text[at + end.len()..];
    }
}

/// Text formats that can be recognised reliably.
pub(super) fn is_strict(media_type: &str) -> bool {
    matches!(
        media_type,
        "text/html"
            | XML
            | SVG
            | XHTML
            | "application/pdf"
            | "application/rtf"
            | "application/x-x509-ca-cert"
    )
}

/// Text formats without a magic number.
pub(super) fn is_textual(media_type: &str) -> bool {
    media_type != "text/html" && media_type.starts_with("text/")
        || media_type.ends_with("+xml")
        || media_type.ends_with("+json")
        || matches!(media_type, "application/json" | "application/yaml" | "application/x-ndjson")
}
