//! What went wrong, as clients read it: RFC 9457 problem documents.
//!
//! Handlers and extractors return [`ApiError`]; the [`edge`](super::edge) turns it into
//! the document, adds the request id, and logs the chain behind it once. To add a kind of
//! problem: a [`Code`], and its row in [`Code::row`]; its page at `/problems/{name}` comes
//! by itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::request_id::RequestId;
use super::security::harden;
use crate::domain::Scope;
use crate::domain::policy::FieldErrors;

mod code;
mod from;

pub use code::{Code, Row};

/// The media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// After how many seconds a caller may find a place of its own share free.
const SHARE_RETRY: u16 = 5;

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "/problems/validation", "title": "The input breaks a rule", "status": 400,
    "detail": "title: Must be at most 100 characters long",
    "request_id": "0190a6f2-7b3c-7def-8123-456789abcdef",
    "errors": {"title": ["Must be at most 100 characters long"]},
}))]
pub struct Problem {
    /// A stable reference for the kind of problem, such as `/problems/validation`.
    #[serde(rename = "type")]
    kind: String,
    /// The kind of problem in a few words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// This occurrence, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// The request, as the log knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// For bad input: sentences by field.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<BTreeMap<String, Vec<String>>>,
    /// What some kinds add, such as `run_id`.
    #[serde(flatten)]
    #[schema(ignore)]
    more: Map<String, Value>,
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a request failed: what the client is told, and what only the log is told.
pub struct ApiError(Box<Inner>);

struct Inner {
    code: Code,
    detail: Option<Cow<'static, str>>,
    errors: Option<FieldErrors>,
    more: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    source: Option<Source>,
    request_id: Option<RequestId>,
}

impl ApiError {
    /// A problem of this kind and no more to say.
    pub fn new(code: Code) -> Self {
        Self(Box::new(Inner {
            code,
            detail: None,
            errors: None,
            more: Map::new(),
            headers: Vec::new(),
            source: None,
            request_id: None,
        }))
    }

    /// A problem with a sentence for people.
    pub fn saying(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut error = Self::new(code);
        error.0.detail = Some(detail.into());
        error
    }

    /// Bad input: one sentence about one field.
    pub fn field(field: &str, sentence: impl Into<String>) -> Self {
        FieldErrors::one(field, sentence).into()
    }

    /// A path that takes only these methods.
    pub fn method_not_allowed(allow: HeaderValue) -> Self {
        Self::new(Code::MethodNotAllowed).header(header::ALLOW, allow)
    }

    /// A caller that is not known, or whose token opens nothing.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>, shown: bool) -> Self {
        let challenge = if shown {
            "Bearer realm=\"upload-coordinator\", error=\"invalid_token\""
        } else {
            "Bearer realm=\"upload-coordinator\""
        };
        Self::saying(Code::Unauthorized, detail)
            .header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// A caller without the scope that the route needs.
    pub fn forbidden(scope: Scope) -> Self {
        let challenge = format!(
            "Bearer realm=\"upload-coordinator\", error=\"insufficient_scope\", scope=\"{scope}\""
        );
        let error = Self::saying(Code::Forbidden, format!("The token lacks the scope {scope}"))
            .with("scope", scope.name());
        match HeaderValue::from_str(&challenge) {
            Ok(challenge) => error.header(header::WWW_AUTHENTICATE, challenge),
            Err(_) => error,
        }
    }

    /// A caller that has its whole share of what is done at once: some of it ends soon.
    pub(super) fn over_share(share: usize, what: &str) -> Self {
        Self::saying(Code::QuotaExceeded, format!("at most {share} {what}"))
            .header(header::RETRY_AFTER, HeaderValue::from(SHARE_RETRY))
    }

    /// Adds a header to the answer; `Retry-After` takes the place of the table's.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.0.headers.push((name, value.into()));
        self
    }

    /// Adds a member to the document.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.more.insert(name.to_owned(), value.into());
        self
    }

    /// Adds what stands behind it, for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds the request that failed.
    #[must_use]
    pub(super) fn of_request(mut self, id: RequestId) -> Self {
        self.0.request_id = Some(id);
        self
    }

    /// The kind of problem.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// A library's error: its status is kept, and for the client's faults its words.
    pub(super) fn foreign(error: &actix_web::Error) -> Self {
        let code = Code::of_status(error.as_response_error().status_code());
        let text = error.to_string();
        if code.status().is_client_error() {
            Self::saying(code, text)
        } else {
            Self::new(code).because(text)
        }
    }

    /// The response for the request `id`.
    pub(super) fn render(&self, id: Option<&RequestId>) -> HttpResponse<BoxBody> {
        let Inner { code, detail, errors, more, headers, source: _, request_id } = &*self.0;
        let Row { name, status, title, retry_after, meaning: _ } = code.row();
        let id = id.or(request_id.as_ref());
        let mut response = HttpResponse::build(status);
        if let Some(seconds) = retry_after {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        for (name, value) in headers {
            response.insert_header((name.clone(), value.clone()));
        }
        if let Some(id) = id {
            response.insert_header(id.header());
        }
        let problem = Problem {
            kind: format!("/problems/{name}"),
            title,
            status: status.as_u16(),
            detail: detail.as_deref().map(str::to_owned).or(errors.as_ref().and_then(first)),
            request_id: id.map(ToString::to_string),
            errors: errors.as_ref().map(|errors| errors.0.clone()),
            more: more.clone(),
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = response.content_type(PROBLEM_JSON).body(body);
        harden(response.headers_mut(), false);
        response
    }
}

/// The first sentence about a field, for clients that show the detail only.
fn first(errors: &FieldErrors) -> Option<String> {
    let (field, sentences) = errors.0.iter().next()?;
    Some(format!("{field}: {}", sentences.first()?))
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { code, detail, errors, source, .. } = &*self.0;
        f.debug_struct("ApiError")
            .field("code", code)
            .field("detail", detail)
            .field("errors", errors)
            .field("source", source)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { code, detail, errors, .. } = &*self.0;
        f.write_str(code.row().title)?;
        if let Some(detail) = detail {
            write!(f, ": {detail}")?;
        }
        for (field, sentences) in errors.iter().flat_map(|errors| &errors.0) {
            write!(f, "; {field}: {}", sentences.join(" "))?;
        }
        Ok(())
    }
}

impl std::error::Error for ApiError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.0.code.status()
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        self.render(None)
    }
}
