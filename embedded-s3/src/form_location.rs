//! The location of the object in the response to a form. `s3s` knows only the key in the form, in
//! which `${filename}` may stand for the name of the file.

use http::header::{CONTENT_LENGTH, HOST, LOCATION};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Collected};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::{Body, HttpResponse};
use url::Url;

/// RFC 3986's unreserved characters and the slash are not encoded.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The address of the bucket that a form was posted to.
pub(crate) fn bucket_url(parts: &Parts) -> String {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = match text("x-forwarded-proto") {
        Some("https") => "https",
        _ => "http",
    };
    let host = text(HOST.as_str()).unwrap_or_default();
    format!("{scheme}://{host}{}", parts.uri.path().trim_end_matches('/'))
}

/// Writes the address of the object and its real key to the response to a form.
pub(crate) async fn complete(response: HttpResponse, bucket_url: &str, key: &str) -> HttpResponse {
    let (mut parts, body) = response.into_parts();
    let location = format!("{bucket_url}/{}", utf8_percent_encode(key, ENCODED));
    if parts.status.is_redirection() {
        let target = parts.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        if let Some(target) = target.and_then(|target| with_key(target, key)) {
            parts.headers.insert(LOCATION, target);
        }
        return HttpResponse::from_parts(parts, body);
    }
    if let Ok(value) = HeaderValue::from_str(&location) {
        parts.headers.insert(LOCATION, value);
    }
    if parts.status != StatusCode::CREATED {
        return HttpResponse::from_parts(parts, body);
    }
    let bytes = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    let xml = String::from_utf8_lossy(&bytes);
    let xml = replaced(&replaced(&xml, "Location", &location), "Key", key);
    parts.headers.remove(CONTENT_LENGTH);
    HttpResponse::from_parts(parts, Body::from(xml))
}

/// The page that the form redirects to, with the object's key as a parameter.
fn with_key(target: &str, key: &str) -> Option<HeaderValue> {
    let mut url = Url::parse(target).ok()?;
    let mut pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    // The page's URL may already have a parameter with this name. The last one is from `s3s`.
    key.clone_into(&mut pairs.iter_mut().rev().find(|(name, _)| name == "key")?.1);
    url.query_pairs_mut().clear().extend_pairs(pairs);
    HeaderValue::from_str(url.as_str()).ok()
}

/// Returns the XML with the text of the first element with this name replaced.
fn replaced(xml: &str, element: &str, text: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    match xml
        .split_once(&open)
        .and_then(|(before, after)| Some((before, after.split_once(&close)?)))
    {
        Some((before, (_, after))) => format!("{before}{open}{text}{close}{after}"),
        None => xml.to_owned(),
    }
}
