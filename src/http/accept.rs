//! What clients say that they can read: `Accept`, RFC 9110 section 12.5.1.
//!
//! A route has one media type to give, and errors another. Who reads one of them is served,
//! who reads neither is told so before anything is done. Parameters other than `q` are not
//! looked at: `application/json;charset=utf-8` is JSON.

use actix_web::http::header::{ACCEPT, HeaderMap};

use super::problem::{ApiError, Code, PROBLEM_JSON};

/// What a route has to give. Declared where the route is (`routes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// JSON.
    Json,
    /// Server-sent events.
    EventStream,
    /// A page.
    Html,
    /// Lines of text.
    Text,
    /// Nothing, or what depends on more than the route: nobody is refused for it.
    Any,
}

impl Gives {
    fn media_type(self) -> Option<&'static str> {
        match self {
            Self::Json => Some("application/json"),
            Self::EventStream => Some("text/event-stream"),
            Self::Html => Some("text/html"),
            Self::Text => Some("text/plain"),
            Self::Any => None,
        }
    }

    /// Whether somebody may be refused for what it can't read.
    pub fn is_chosen(self) -> bool {
        self != Self::Any
    }

    /// Refuses a request whose answer its sender could not read.
    pub fn acceptable(self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(own) = self.media_type() else { return Ok(()) };
        let lines = headers.get_all(ACCEPT).filter_map(|line| line.to_str().ok());
        let mut asked = false;
        let (mut answer, mut problem) = (Judgement::of(own), Judgement::of(PROBLEM_JSON));
        for range in lines.flat_map(|line| split(line, ',')).filter_map(Range::parse) {
            asked = true;
            answer.hear(range);
            problem.hear(range);
        }
        // Nothing that can be read is the same as nothing.
        if !asked || answer.admitted || problem.admitted {
            return Ok(());
        }
        Err(ApiError::saying(Code::NotAcceptable, format!("The answer would be {own}")))
    }
}

/// A media range, `type/subtype`, where `*` is any.
#[derive(Clone, Copy)]
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// Whether its weight is above zero.
    wanted: bool,
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
        let wanted = weight.is_none_or(|(_, weight)| !is_zero(weight.trim()));
        Some(Self { kind, subtype, wanted })
    }

    /// How closely it names a media type; `None` where it does not.
    fn closeness(self, kind: &str, subtype: &str) -> Option<u8> {
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

/// `0` with up to three zeros behind a point.
fn is_zero(weight: &str) -> bool {
    weight.strip_prefix('0').is_some_and(|rest| {
        rest.strip_prefix('.').unwrap_or(rest).bytes().all(|digit| digit == b'0')
    })
}

/// What the ranges say of one media type: of those that name it the closest counts.
struct Judgement {
    kind: &'static str,
    subtype: &'static str,
    closest: Option<u8>,
    admitted: bool,
}

impl Judgement {
    fn of(media_type: &'static str) -> Self {
        let (kind, subtype) = media_type.split_once('/').unwrap_or((media_type, ""));
        Self { kind, subtype, closest: None, admitted: false }
    }

    fn hear(&mut self, range: Range<'_>) {
        let Some(closeness) = range.closeness(self.kind, self.subtype) else { return };
        if self.closest.is_none_or(|closest| closeness > closest) {
            (self.closest, self.admitted) = (Some(closeness), range.wanted);
        } else if self.closest == Some(closeness) {
            self.admitted |= range.wanted;
        }
    }
}

/// The pieces between separators that stand outside of quotes.
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

    fn admits(gives: Gives, lines: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        match gives.acceptable(&headers) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.code(), Code::NotAcceptable);
                false
            }
        }
    }

    #[test]
    fn who_reads_what_the_route_gives_is_served() {
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
            assert!(admits(Gives::Json, &[accept]), "{accept}");
        }
        assert!(admits(Gives::Json, &["text/html", "application/json"]), "two lines are one list");
        assert!(admits(Gives::EventStream, &["text/event-stream"]));
        assert!(admits(Gives::Html, &["text/*"]));
        let scraper = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4";
        assert!(admits(Gives::Text, &[scraper]));
        assert!(admits(Gives::Any, &["image/png"]));
    }

    #[test]
    fn who_reads_neither_that_nor_problems_is_refused() {
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
            assert!(!admits(Gives::Json, &[accept]), "{accept}");
        }
        assert!(!admits(Gives::EventStream, &["application/json"]));
        assert!(!admits(Gives::Html, &["application/json"]));
        assert!(!admits(Gives::Json, &["application/xml", "text/html"]));
    }

    #[test]
    fn the_closest_range_counts_wherever_it_stands() {
        let refused = "application/problem+json;q=0, application/json;q=0, */*";
        assert!(!admits(Gives::Json, &[refused]));
        assert!(admits(Gives::Text, &[refused]));
        // Refused as JSON, but problems are read.
        assert!(admits(Gives::Json, &["application/json;q=0, */*"]));
    }

    #[test]
    fn what_cant_be_read_is_as_if_it_were_not_there() {
        for lines in [&[][..], &[""], &["json"], &["/"], &["*/json"], &[",;,"], &["\u{e9}/x"]] {
            assert!(admits(Gives::Json, lines), "{lines:?}");
        }
        assert!(!admits(Gives::Json, &["json, text/html"]));
        assert!(admits(Gives::Json, &["text/html;q=0, nonsense, */*;q=1"]));
    }

    #[test]
    fn a_weight_of_zero_is_zero_however_it_is_written() {
        assert!(["0", "0.", "0.0", "0.000"].iter().all(|text| is_zero(text)));
        assert!(["1", "0.001", "0.5", "", "x", ".0"].iter().all(|text| !is_zero(text)));
    }
}
