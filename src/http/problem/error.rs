//! The error of a failed request.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Map, Value};

use super::code::Code;
use crate::domain::Scope;
use crate::domain::policy::FieldErrors;

/// The seconds after which a caller at its own concurrency limit may try again.
const OWNER_LIMIT_RETRY: u16 = 5;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// The error of a failed request. It contains the information for the client, and the source, which
/// is only for the log. The API family renders it.
pub struct ApiError(Box<Inner>);

struct Inner {
    code: Code,
    detail: Option<Cow<'static, str>>,
    errors: Option<FieldErrors>,
    more: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    source: Option<Source>,
}

impl ApiError {
    /// A problem of this kind without a detail.
    pub fn new(code: Code) -> Self {
        Self(Box::new(Inner {
            code,
            detail: None,
            errors: None,
            more: Map::new(),
            headers: Vec::new(),
            source: None,
        }))
    }

    /// A problem with a sentence about this occurrence.
    pub fn saying(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut error = Self::new(code);
        error.0.detail = Some(detail.into());
        error
    }

    /// Invalid input: one message about one field.
    pub fn field(field: &str, sentence: impl Into<String>) -> Self {
        FieldErrors::one(field, sentence).into()
    }

    /// A path that supports only these methods.
    pub fn method_not_allowed(allow: HeaderValue) -> Self {
        Self::new(Code::MethodNotAllowed).header(header::ALLOW, allow)
    }

    /// A missing or invalid token. `presented` is whether the request had a token.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>, presented: bool) -> Self {
        let challenge = if presented {
            "Bearer realm=\"upload-coordinator\", error=\"invalid_token\""
        } else {
            "Bearer realm=\"upload-coordinator\""
        };
        Self::saying(Code::Unauthorized, detail)
            .header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// A caller without the required scope.
    pub fn forbidden(scope: Scope) -> Self {
        let challenge = format!(
            "Bearer realm=\"upload-coordinator\", error=\"insufficient_scope\", scope=\"{scope}\""
        );
        let error =
            Self::saying(Code::Forbidden, format!("The token does not have the scope {scope}"))
                .with("scope", scope.name());
        match HeaderValue::from_str(&challenge) {
            Ok(challenge) => error.header(header::WWW_AUTHENTICATE, challenge),
            Err(_) => error,
        }
    }

    /// A route that upload tokens may not use.
    pub fn not_for_upload_tokens() -> Self {
        Self::saying(
            Code::Forbidden,
            "An upload token can only create uploads and use the uploads that it created",
        )
    }

    /// A caller at its own concurrency limit.
    pub(in crate::http) fn over_owner_limit(limit: usize, what: &str) -> Self {
        Self::saying(Code::QuotaExceeded, format!("At most {limit} {what}"))
            .header(header::RETRY_AFTER, HeaderValue::from(OWNER_LIMIT_RETRY))
    }

    /// Adds a header to the response. `Retry-After` replaces the value of the table.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.0.headers.push((name, value.into()));
        self
    }

    /// Adds a member to the problem document.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.more.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the source, for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The kind of problem.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The sentence about this occurrence.
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// The error in one sentence: the detail, or for invalid input the first message about a field.
    pub fn sentence(&self) -> Option<String> {
        let of_field = || {
            let (field, sentences) = self.field_errors()?.0.iter().next()?;
            Some(format!("{field}: {}", sentences.first()?))
        };
        self.detail().map(str::to_owned).or_else(of_field)
    }

    /// For invalid input: messages by field.
    pub fn field_errors(&self) -> Option<&FieldErrors> {
        self.0.errors.as_ref()
    }

    /// Members that only some kinds of problems have, such as `run_id`.
    pub fn members(&self) -> &Map<String, Value> {
        &self.0.more
    }

    /// Headers of the response.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0.headers
    }

    /// Converts an error of a library. The status stays the same. The client gets the text only if
    /// the client caused the error.
    pub(in crate::http) fn from_library(error: &actix_web::Error) -> Self {
        let code = Code::of_status(error.as_response_error().status_code());
        let text = error.to_string();
        if code.status().is_client_error() {
            Self::saying(code, text)
        } else {
            Self::new(code).because(text)
        }
    }
}

impl From<FieldErrors> for ApiError {
    fn from(errors: FieldErrors) -> Self {
        let mut error = Self::new(Code::Validation);
        error.0.errors = Some(errors);
        error
    }
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

    /// Only the status: the errors middleware renders the body.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}
