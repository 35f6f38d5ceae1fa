//! Origins of web pages.

use url::Url;

/// Whether a text is an origin as browsers send it, such as `https://app.example.com`, or `*`.
pub fn is_origin(text: &str) -> bool {
    text == "*"
        || Url::parse(text)
            .is_ok_and(|url| url.has_host() && url.origin().ascii_serialization() == text)
}
