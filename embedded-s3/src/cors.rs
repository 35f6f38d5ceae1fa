//! CORS. Preflight requests are handled before `s3s`, because they are not signed and `s3s` would
//! refuse them.
//!
//! A bucket without a CORS configuration allows any origin, because this is a server for
//! development. For a bucket with a configuration, the responses are like those of S3.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use s3s::{S3Error, S3ErrorCode};

use crate::error::refuse;
use crate::index::CorsRule;

/// The response headers that scripts may read.
const EXPOSED: &str = "ETag, Content-Length, Content-Range, Accept-Ranges, Location, \
     x-amz-request-id, x-amz-version-id, x-amz-mp-parts-count, x-amz-checksum-type, \
     x-amz-checksum-crc32, x-amz-checksum-crc32c, x-amz-checksum-crc64nvme, \
     x-amz-checksum-sha1, x-amz-checksum-sha256";
const ALL_METHODS: &str = "GET, HEAD, PUT, POST, DELETE";
const DEFAULT_MAX_AGE: &str = "3000";

/// The CORS headers of a request, and the rules of its bucket.
#[derive(Debug)]
pub(crate) struct Cors {
    rules: Option<Arc<[CorsRule]>>,
    origin: Option<String>,
    method: String,
    requested_headers: Vec<String>,
    preflight: bool,
}

impl Cors {
    pub(crate) fn of(method: &Method, headers: &HeaderMap, rules: Option<Arc<[CorsRule]>>) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
        let requested = text(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| method == Method::OPTIONS);
        Self {
            rules,
            origin: text(ORIGIN).map(str::to_owned),
            method: requested.unwrap_or(method.as_str()).to_owned(),
            requested_headers: text(ACCESS_CONTROL_REQUEST_HEADERS)
                .unwrap_or_default()
                .split(',')
                .map(|name| name.trim().to_ascii_lowercase())
                .filter(|name| !name.is_empty())
                .collect(),
            preflight: method == Method::OPTIONS,
        }
    }

    /// The headers of the response to a preflight.
    pub(crate) fn preflight(&self) -> Result<HeaderMap, S3Error> {
        if self.origin.is_none() {
            let message = "Insufficient information. Origin request header needed.";
            return Err(refuse(S3ErrorCode::InvalidRequest, message));
        }
        let mut headers = HeaderMap::new();
        let (methods, max_age) = match (&self.rules, self.matching()) {
            (None, _) => (ALL_METHODS.to_owned(), Some(DEFAULT_MAX_AGE.to_owned())),
            (Some(_), Some(rule)) => {
                let max_age = rule.max_age_seconds.map(|seconds| seconds.to_string());
                (rule.allowed_methods.join(", "), max_age)
            }
            (Some(_), None) => {
                let mut error = refuse(
                    S3ErrorCode::AccessDenied,
                    "CORSResponse: This CORS request is not allowed. This is usually because \
                     the evaluation of Origin, request method / Access-Control-Request-Method \
                     or Access-Control-Request-Headers are not whitelisted by the resource's \
                     CORS spec.",
                );
                error.set_status_code(http::StatusCode::FORBIDDEN);
                return Err(error);
            }
        };
        insert(&mut headers, ACCESS_CONTROL_ALLOW_METHODS, &methods);
        if !self.requested_headers.is_empty() {
            let requested = self.requested_headers.join(", ");
            insert(&mut headers, ACCESS_CONTROL_ALLOW_HEADERS, &requested);
        }
        if let Some(max_age) = max_age {
            insert(&mut headers, ACCESS_CONTROL_MAX_AGE, &max_age);
        }
        Ok(headers)
    }

    /// Adds the headers that allow the requesting page to read a response.
    pub(crate) fn decorate(&self, headers: &mut HeaderMap) {
        let Some(rules) = &self.rules else {
            insert(headers, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
            insert(headers, ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
            return;
        };
        if rules.iter().any(|rule| !rule.allowed_origins.iter().any(|o| o == "*")) {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        let (Some(rule), Some(origin)) = (self.matching(), &self.origin) else { return };
        if rule.allowed_origins.iter().any(|allowed| allowed == "*") {
            insert(headers, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        } else {
            insert(headers, ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            insert(headers, ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        let more = rule.expose_headers.iter().map(String::as_str);
        let exposed = std::iter::once(EXPOSED).chain(more).collect::<Vec<_>>().join(", ");
        insert(headers, ACCESS_CONTROL_EXPOSE_HEADERS, &exposed);
    }

    /// The first rule that allows this request.
    fn matching(&self) -> Option<&CorsRule> {
        let origin = self.origin.as_deref()?;
        self.rules.as_deref()?.iter().find(|rule| {
            rule.allowed_origins.iter().any(|pattern| matches(pattern, origin))
                && rule.allowed_methods.contains(&self.method)
                && (!self.preflight || self.headers_allowed(rule))
        })
    }

    fn headers_allowed(&self, rule: &CorsRule) -> bool {
        self.requested_headers.iter().all(|name| {
            rule.allowed_headers.iter().any(|allowed| matches(&allowed.to_ascii_lowercase(), name))
        })
    }
}

/// Whether a text matches a pattern with at most one `*`, as S3 defines it.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

/// Sets a header. An invalid value is skipped, because rules are not validated.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
