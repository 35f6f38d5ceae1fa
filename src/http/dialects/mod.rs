//! Dialects: the wire formats of other upload clients, for the same use cases as the native API.
//!
//! Each dialect is a folder with a type that implements [`ApiFamily`]: its routes, its CORS headers
//! and the format of its errors. A handler reads the client's format, calls one use case and writes
//! the client's format. It contains no other logic. To add a dialect, add its folder, a line in
//! [`FAMILIES`], and a field in `config::dialects`. Routes of uploads use
//! [`NeedsOrToken`](super::middleware::access::Access), so that they also work below `/t/{token}/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_cors::Cors;
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::{HttpResponse, rt};
use chrono::TimeDelta;
use tracing::Instrument as _;

use super::extract::UploadCaller;
use super::family::{ApiFamily, allow_origins};
use super::middleware::request_id::REQUEST_ID;
use super::problem::{ApiError, Code, response_head};
use crate::app::create_upload::NewUpload;
use crate::domain::metadata;
use crate::domain::upload::{Declared, State};
use crate::domain::{PolicyName, Status, Upload};

mod activestorage;
mod companion;
mod filepond;
mod form;
mod s3ff;
mod tus;

/// The configuration of a dialect.
#[derive(Debug, Clone)]
pub struct Dialect {
    /// The policy of its uploads. If the request has an upload token, the token's policy is used.
    pub policy: PolicyName,
    /// The lifetime of a URL.
    pub url_ttl: TimeDelta,
    /// Whether a URL can be used only once.
    pub write_once: bool,
}

type Family = fn(Dialect) -> Arc<dyn ApiFamily>;

/// All dialects, by their configuration names.
const FAMILIES: [(&str, Family); 6] = [
    ("activestorage", |dialect| Arc::new(activestorage::ActiveStorage(dialect))),
    ("companion", |dialect| Arc::new(companion::Companion(dialect))),
    ("filepond", |dialect| Arc::new(filepond::FilePond(dialect))),
    ("form", |dialect| Arc::new(form::Form(dialect))),
    ("s3ff", |dialect| Arc::new(s3ff::S3FileField(dialect))),
    ("tus", |dialect| Arc::new(tus::Tus(dialect))),
];

/// The family of a dialect. `None` if there is no dialect with that name.
pub fn family(name: &str, dialect: Dialect) -> Option<Arc<dyn ApiFamily>> {
    let (_, family) = FAMILIES.iter().find(|(known, _)| *known == name)?;
    Some(family(dialect))
}

impl Dialect {
    /// A new upload of this dialect.
    fn upload(&self, caller: &UploadCaller, declared: Declared) -> NewUpload {
        // The token determines the policy. A request that named another policy would be refused.
        let has_token = caller.principal().token().is_some();
        NewUpload {
            policy: (!has_token).then(|| self.policy.clone()),
            declared: Declared {
                content_type: declared.content_type.filter(|name| !name.trim().is_empty()),
                ..declared
            },
            expires_in: Some(self.url_ttl.num_seconds()),
            write_once: Some(self.write_once),
            check_at_url_end: true,
            ..NewUpload::default()
        }
    }
}

/// The metadata that can be stored with an object. Clients send everything that their pages know
/// about a file, such as its name in any language. Pairs that the store cannot store are omitted.
fn storable(pairs: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let pairs = pairs.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    pairs.filter(|(name, value)| metadata::is_name(name) && metadata::is_value(value)).collect()
}

/// Returns the upload if its file was accepted, or the error for the client.
fn require_accepted(upload: Upload) -> Result<Upload, ApiError> {
    match &upload.state {
        State::Inspecting(_) | State::Uploaded(_) => Ok(upload),
        State::Rejected { reason, .. } => Err(ApiError::field("file", reason.explanation())),
        // The file was accepted, but a newer file of the same subject was verified first.
        _ if upload.status() == Status::Removed => Ok(upload),
        _ => Err(ApiError::new(Code::Ended)),
    }
}

/// Reads a header whose value is a number of bytes.
fn number(headers: &HeaderMap, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let number = digits.and_then(|text| text.parse().ok()).filter(|n| i64::try_from(*n).is_ok());
    number.map(Some).ok_or_else(|| ApiError::field(name, "Must be a number of bytes"))
}

/// Runs work in a task, so that it continues if the client disconnects and the handler is dropped.
async fn in_task<T: 'static>(work: impl Future<Output = T> + 'static) -> Result<T, ApiError> {
    let done = rt::spawn(work.in_current_span()).await;
    done.map_err(|error| ApiError::new(Code::Internal).because(error))
}

/// The error as one sentence.
fn sentence(error: &ApiError) -> String {
    error.sentence().unwrap_or_else(|| error.code().row().title.to_owned())
}

/// An error as `{"error": sentence}`.
fn error_sentence(error: &ApiError) -> HttpResponse {
    response_head(error).json(serde_json::json!({"error": sentence(error)}))
}

/// An error as `{"error": name, "message": sentence}`.
fn error_with_message(error: &ApiError) -> HttpResponse {
    let body = serde_json::json!({"error": error.code().row().name, "message": sentence(error)});
    response_head(error).json(body)
}

/// The CORS rules of a dialect for pages of these origins. `headers` and `exposed` are headers that
/// only its client sends and reads.
fn cors(origins: &[String], headers: &[&'static str], exposed: &[&'static str]) -> Cors {
    let names = |names: &[&'static str]| -> Vec<HeaderName> {
        names.iter().map(|name| HeaderName::from_static(name)).collect()
    };
    let always = [header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT, REQUEST_ID];
    let cors = Cors::default()
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
        .allowed_headers(always)
        .allowed_headers(names(&["cache-control", "traceparent", "tracestate", "x-requested-with"]))
        .allowed_headers(names(headers))
        .expose_headers([header::LOCATION, header::RETRY_AFTER, REQUEST_ID])
        .expose_headers(names(exposed))
        .max_age(3600);
    allow_origins(cors, origins)
}
