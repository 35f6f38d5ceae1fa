//! What went wrong, as clients read it: RFC 9457 problem documents.
//!
//! Handlers and extractors return [`ApiError`]; the [`edge`](super::edge) turns it into
//! the document, adds the request id, and logs the chain behind it once. To add a kind of
//! problem: a [`Code`], and its row in [`Code::row`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::request_id::RequestId;
use crate::app::AppError;
use crate::db::DbError;
use crate::domain::policy::FieldErrors;
use crate::reconcile::StartError;
use crate::storage::StoreError;
use crate::storage::presign::SignError;

/// The media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No such thing, or no such path.
    NotFound,
    /// Input that breaks a rule.
    Validation,
    /// A body that can't be read.
    BadRequest,
    /// No token, or a wrong one.
    Unauthorized,
    /// The path takes other methods.
    MethodNotAllowed,
    /// The body did not come in time.
    Timeout,
    /// The body is over its limit.
    TooLarge,
    /// A body of another kind than the route takes.
    MediaType,
    /// Switched off in this installation.
    Disabled,
    /// The object is not in the store yet.
    NotArrived,
    /// The parts in the store are not the whole file.
    PartsIncomplete,
    /// The store holds no parts any more.
    PartsGone,
    /// The file is still on its way.
    FilePending,
    /// The state refuses it.
    State,
    /// The upload was ended while its bytes were coming.
    Ended,
    /// A run of that mode and policy is at work.
    RunActive,
    /// As many wait as may.
    TooManyWaiters,
    /// Others changed the same thing again and again.
    Contended,
    /// A fault of this service.
    Internal,
    /// The store answered with a fault that trying again won't mend.
    Store,
    /// The database, the store or the credentials are not there.
    Unavailable,
    /// Not ready for traffic.
    NotReady,
}

impl Code {
    /// THE table: the name in `type`, the status, the title, and after how many seconds
    /// trying again makes sense.
    fn row(self) -> (&'static str, StatusCode, &'static str, Option<u32>) {
        use StatusCode as S;
        match self {
            Self::NotFound => ("not-found", S::NOT_FOUND, "Not found", None),
            Self::Validation => ("validation", S::BAD_REQUEST, "The input breaks a rule", None),
            Self::BadRequest => ("bad-request", S::BAD_REQUEST, "The request can't be read", None),
            Self::Unauthorized => ("unauthorized", S::UNAUTHORIZED, "Who are you?", None),
            Self::MethodNotAllowed => {
                ("method-not-allowed", S::METHOD_NOT_ALLOWED, "Method not allowed", None)
            }
            Self::Timeout => {
                ("request-timeout", S::REQUEST_TIMEOUT, "The body did not come in time", None)
            }
            Self::TooLarge => {
                ("body-too-large", S::PAYLOAD_TOO_LARGE, "The body is over its limit", None)
            }
            Self::MediaType => (
                "unsupported-media-type",
                S::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported media type",
                None,
            ),
            Self::Disabled => ("disabled", S::FORBIDDEN, "Switched off", None),
            Self::NotArrived => ("not-arrived", S::CONFLICT, "The object has not arrived", None),
            Self::PartsIncomplete => {
                ("parts-incomplete", S::CONFLICT, "The parts are not the whole file", None)
            }
            Self::PartsGone => ("parts-gone", S::CONFLICT, "The parts are gone", None),
            Self::FilePending => ("file-pending", S::CONFLICT, "The file is on its way", None),
            Self::State => ("state-conflict", S::CONFLICT, "The state refuses it", None),
            Self::Ended => ("upload-ended", S::CONFLICT, "The upload was ended", None),
            Self::RunActive => ("run-active", S::CONFLICT, "A run is at work", None),
            Self::TooManyWaiters => {
                ("too-many-waiters", S::SERVICE_UNAVAILABLE, "Too many are waiting", Some(5))
            }
            Self::Contended => {
                ("contended", S::SERVICE_UNAVAILABLE, "Changed by others; try again", Some(1))
            }
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "Internal server error", None),
            Self::Store => ("store-error", S::BAD_GATEWAY, "The object store failed", None),
            Self::Unavailable => {
                ("unavailable", S::SERVICE_UNAVAILABLE, "Not available; try again", Some(5))
            }
            Self::NotReady => ("not-ready", S::SERVICE_UNAVAILABLE, "Not ready", Some(5)),
        }
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.row().1
    }

    /// The kind that fits a status which a library chose.
    fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Self::Timeout,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::MediaType,
            status if status.is_client_error() => Self::BadRequest,
            _ => Self::Internal,
        }
    }
}

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
    allow: Option<HeaderValue>,
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
            allow: None,
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
        let mut error = Self::new(Code::MethodNotAllowed);
        error.0.allow = Some(allow);
        error
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
        let Inner { code, detail, errors, more, allow, source: _, request_id } = &*self.0;
        let (name, status, title, retry_after) = code.row();
        let id = id.or(request_id.as_ref());
        let mut response = HttpResponse::build(status);
        if let Some(seconds) = retry_after {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Some(allow) = allow {
            response.insert_header((header::ALLOW, allow.clone()));
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
        response.content_type(PROBLEM_JSON).body(body)
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
        f.write_str(code.row().2)?;
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

impl From<FieldErrors> for ApiError {
    fn from(errors: FieldErrors) -> Self {
        let mut error = Self::new(Code::Validation);
        error.0.errors = Some(errors);
        error
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        let code = match &error {
            DbError::Unavailable(_) | DbError::Busy => Code::Unavailable,
            DbError::Statement(_) | DbError::Corrupt { .. } | DbError::Clock | DbError::Url(_) => {
                Code::Internal
            }
        };
        Self::new(code).because(error)
    }
}

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::NotFound(what) => Self::saying(Code::NotFound, format!("No such {what}")),
            AppError::Invalid(errors) => errors.into(),
            AppError::MediaType(detail) => Self::saying(Code::MediaType, detail),
            AppError::NotArrived => Self::saying(Code::NotArrived, error.to_string()),
            AppError::Parts(parts) => Self::saying(Code::PartsIncomplete, parts.to_string())
                .with("missing", parts.missing)
                .with("wrong", parts.wrong.iter().map(|part| part.number).collect::<Vec<_>>())
                .with("unexpected", parts.unexpected),
            AppError::PartsGone => Self::saying(Code::PartsGone, error.to_string()),
            AppError::FilePending => Self::saying(Code::FilePending, error.to_string()),
            AppError::State(state) => Self::saying(Code::State, state.to_string()),
            AppError::TooManyWaiters => Self::saying(Code::TooManyWaiters, error.to_string()),
            AppError::Contended => Self::saying(Code::Contended, error.to_string()),
            AppError::Ended => Self::saying(Code::Ended, error.to_string()),
            AppError::Body(detail) => Self::saying(Code::BadRequest, detail),
            AppError::Disabled(detail) => Self::saying(Code::Disabled, detail),
            AppError::Unconfigured(_) => Self::new(Code::Internal).because(error),
            AppError::Db(error) => error.into(),
            AppError::Store(error) => {
                let code = match &error {
                    StoreError::Unavailable(_) => Code::Unavailable,
                    // Whoever ended the upload aborted it.
                    StoreError::NoSuchMultipart => Code::Ended,
                    StoreError::PreconditionFailed
                    | StoreError::NoSuchBucket
                    | StoreError::AccessDenied(_)
                    | StoreError::Refused { .. }
                    | StoreError::Protocol(_)
                    | StoreError::Body(_) => Code::Store,
                };
                Self::new(code).because(error)
            }
            AppError::Sign(error) => {
                let code = match &error {
                    SignError::Expiry
                    | SignError::Credentials(_)
                    | SignError::CredentialsExpired => Code::Unavailable,
                    SignError::Key(_) | SignError::Header(_) | SignError::PartNumber => {
                        Code::Internal
                    }
                };
                Self::new(code).because(error)
            }
        }
    }
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Held(id) => {
                Self::saying(Code::RunActive, "A run of that mode and policy is at work")
                    .with("run_id", id.to_string())
            }
            // Only schedules name a time.
            StartError::Taken => Self::saying(Code::RunActive, error.to_string()),
            StartError::App(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RunId;

    #[test]
    fn every_failure_has_its_status_and_type() {
        let broken = || Box::new(std::io::Error::other("secret")) as Source;
        for (error, status, name) in [
            (AppError::NotFound("track"), 404, "not-found"),
            (AppError::field("size", "File is empty"), 400, "validation"),
            (AppError::MediaType("no".into()), 415, "unsupported-media-type"),
            (AppError::NotArrived, 409, "not-arrived"),
            (AppError::FilePending, 409, "file-pending"),
            (AppError::Contended, 503, "contended"),
            (AppError::Ended, 409, "upload-ended"),
            (AppError::Body("broke off".into()), 400, "bad-request"),
            (AppError::Disabled("off"), 403, "disabled"),
            (AppError::Unconfigured("secret".into()), 500, "internal"),
            (DbError::Clock.into(), 500, "internal"),
            (DbError::Url("secret".into()).into(), 500, "internal"),
            (StoreError::Unavailable(broken()).into(), 503, "unavailable"),
            (StoreError::AccessDenied(broken()).into(), 502, "store-error"),
            (StoreError::Protocol("secret".into()).into(), 502, "store-error"),
            (StoreError::NoSuchMultipart.into(), 409, "upload-ended"),
            (SignError::CredentialsExpired.into(), 503, "unavailable"),
            (SignError::Header("secret".into()).into(), 500, "internal"),
        ] {
            let error = ApiError::from(error);
            let (kind, found, _, retry_after) = error.code().row();
            assert_eq!((kind, found.as_u16()), (name, status));
            let response = error.render(None);
            assert_eq!(response.headers().contains_key("retry-after"), status == 503);
            assert_eq!(retry_after.is_some(), status == 503);
            let body = actix_web::body::MessageBody::try_into_bytes(response.into_body()).unwrap();
            assert!(!String::from_utf8_lossy(&body).contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_run_at_work_is_named() {
        let id = RunId(uuid::Uuid::nil());
        let response = ApiError::from(StartError::Held(id)).render(None);
        assert_eq!(response.status(), StatusCode::CONFLICT);
        let body = actix_web::body::MessageBody::try_into_bytes(response.into_body()).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&body["type"], &body["run_id"]),
            (&"/problems/run-active".into(), &id.to_string().into())
        );
    }
}
