//! Content negotiation by `Accept` (RFC 9110, section 12.5.1).
//!
//! A route has one media type, and errors have another. A request whose `Accept` allows neither
//! is refused with 406 before the handler runs. Parameters other than `q` are ignored:
//! `application/json;charset=utf-8` is JSON.

use actix_web::http::header::{ACCEPT, HeaderMap};

use crate::http::problem::{ApiError, Code, PROBLEM_JSON};

/// The media type of a route's successful response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Produces {
    /// JSON.
    Json,
    /// Server-sent events.
    EventStream,
    /// A page.
    Html,
    /// Plain text.
    Text,
    /// No body, or a media type that depends on more than the route. `Accept` is ignored.
    Any,
}

impl Produces {
    fn media_type(self) -> Option<&'static str> {
        match self {
            Self::Json => Some("application/json"),
            Self::EventStream => Some("text/event-stream"),
            Self::Html => Some("text/html"),
            Self::Text => Some("text/plain"),
            Self::Any => None,
        }
    }

    /// Whether `Accept` is checked.
    pub fn is_negotiated(self) -> bool {
        self != Self::Any
    }

    /// Returns 406 if `Accept` allows neither this media type nor problem documents. A header
    /// without a valid media range allows everything.
    pub fn check(self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(own) = self.media_type() else { return Ok(()) };
        let lines = headers.get_all(ACCEPT).filter_map(|line| line.to_str().ok());
        let mut any_range = false;
        let (mut response, mut problem) = (Match::of(own), Match::of(PROBLEM_JSON));
        for range in lines.flat_map(|line| split(line, ',')).filter_map(Range::parse) {
            any_range = true;
            response.add(range);
            problem.add(range);
        }
        if !any_range || response.accepted || problem.accepted {
            return Ok(());
        }
        let detail = format!("Accept must allow {own}, the media type of the response");
        Err(ApiError::saying(Code::NotAcceptable, detail))
    }
}

/// A media range, `type/subtype`. `*` matches anything.
#[derive(Clone, Copy)]
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// Whether its weight is greater than zero.
    accepted: bool,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = split(text, ';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        if kind.is_empty() || subtype.is_empty() || (kind == "*" && subtype != "*") {
            return None;
        }
        let weight = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        let accepted = weight.is_none_or(|(_, weight)| !is_zero(weight.trim()));
        Some(Self { kind, subtype, accepted })
    }

    /// How specific the match with a media type is; `None` if it does not match.
    fn specificity(self, kind: &str, subtype: &str) -> Option<u8> {
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (own, "*") if own.eq_ignore_ascii_case(kind) => Some(1),
            (own, sub) if own.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) => {
                Some(2)
            }
            _ => None,
        }
    }
}

/// `0`, or `0.` with any number of zeros.
fn is_zero(weight: &str) -> bool {
    weight.strip_prefix('0').is_some_and(|remaining| {
        remaining.strip_prefix('.').unwrap_or(remaining).bytes().all(|digit| digit == b'0')
    })
}

/// Whether a list of ranges accepts one media type. The most specific range that matches
/// decides.
struct Match {
    kind: &'static str,
    subtype: &'static str,
    specificity: Option<u8>,
    accepted: bool,
}

impl Match {
    fn of(media_type: &'static str) -> Self {
        let (kind, subtype) = media_type.split_once('/').unwrap_or((media_type, ""));
        Self { kind, subtype, specificity: None, accepted: false }
    }

    fn add(&mut self, range: Range<'_>) {
        let Some(specificity) = range.specificity(self.kind, self.subtype) else { return };
        if self.specificity.is_none_or(|highest| specificity > highest) {
            (self.specificity, self.accepted) = (Some(specificity), range.accepted);
        } else if self.specificity == Some(specificity) {
            self.accepted |= range.accepted;
        }
    }
}

/// Splits at separators outside of quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |letter: char| {
        let outside = !quoted;
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        outside && letter == separator
    })
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn accepts(produces: Produces, lines: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        match produces.check(&headers) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.code(), Code::NotAcceptable);
                false
            }
        }
    }

    #[test]
    fn a_request_that_accepts_the_route_s_media_type_is_served() {
        for accept in [
            "application/json",
            "APPLICATION/JSON",
            "application/*",
            "*/*",
            " application/json ; charset=utf-8",
            "text/html, application/json;q=0.001",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "*/*;q=0, application/json",
            "application/*;q=0, application/json;q=0.5",
            "application/problem+json",
            "application/json;q=1.000",
        ] {
            assert!(accepts(Produces::Json, &[accept]), "{accept}");
        }
        assert!(
            accepts(Produces::Json, &["text/html", "application/json"]),
            "two lines are one list"
        );
        assert!(accepts(Produces::EventStream, &["text/event-stream"]));
        assert!(accepts(Produces::Html, &["text/*"]));
        let scraper = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4";
        assert!(accepts(Produces::Text, &[scraper]));
        assert!(accepts(Produces::Any, &["image/png"]));
    }

    #[test]
    fn a_request_that_accepts_neither_the_media_type_nor_problems_is_refused() {
        for accept in [
            "text/html",
            "image/*",
            "application/xml",
            "application/json;q=0",
            "application/json;q=0.000, text/html",
            "*/*;q=0",
            "application/*;q=0, */*;q=0.0",
            "*/*, application/*;q=0",
            "application/json; Q=0",
            "application/jsonp",
            "text/html;a=\"application/json, application/json\"",
            "text/html;a=\"\\\", application/json\"",
        ] {
            assert!(!accepts(Produces::Json, &[accept]), "{accept}");
        }
        assert!(!accepts(Produces::EventStream, &["application/json"]));
        assert!(!accepts(Produces::Html, &["application/json"]));
        assert!(!accepts(Produces::Json, &["application/xml", "text/html"]));
    }

    #[test]
    fn the_most_specific_range_decides_in_any_order() {
        let refused = "application/problem+json;q=0, application/json;q=0, */*";
        assert!(!accepts(Produces::Json, &[refused]));
        assert!(accepts(Produces::Text, &[refused]));
        // JSON is refused, but problem documents are accepted.
        assert!(accepts(Produces::Json, &["application/json;q=0, */*"]));
    }

    #[test]
    fn invalid_ranges_are_ignored() {
        for lines in [&[][..], &[""], &["json"], &["/"], &["*/json"], &[",;,"], &["\u{e9}/x"]] {
            assert!(accepts(Produces::Json, lines), "{lines:?}");
        }
        assert!(!accepts(Produces::Json, &["json, text/html"]));
        assert!(accepts(Produces::Json, &["text/html;q=0, nonsense, */*;q=1"]));
    }

    #[test]
    fn a_weight_of_zero_has_several_spellings() {
        assert!(["0", "0.", "0.0", "0.000"].iter().all(|text| is_zero(text)));
        assert!(["1", "0.001", "0.5", "", "x", ".0"].iter().all(|text| !is_zero(text)));
    }
}
