//! tus 1.0 (<https://tus.io/protocols/resumable-upload>): tus-js-client, `@uppy/tus`, and every
//! other tus client. Extensions: creation, creation-with-upload, creation-defer-length, expiration,
//! checksum and termination.
//!
//! | request | does |
//! | --- | --- |
//! | `OPTIONS /tus` | returns the version, the extensions and the maximum size |
//! | `POST /tus` | creates an upload, and may contain its first bytes |
//! | `HEAD /tus/{id}` | returns the number of stored bytes |
//! | `PATCH /tus/{id}` | stores bytes; the last request completes and verifies the file |
//! | `DELETE /tus/{id}` | ends the upload |
//!
//! For a client, the status of the last PATCH is the result of the upload. So if the file is
//! rejected, this PATCH returns an error. Clients retry a PATCH after 5xx, 409 and 423, but not
//! after other 4xx. HEAD returns 423 for every temporary error, so that clients retry it too.

use actix_cors::Cors;
use actix_web::HttpResponse;
use actix_web::http::header::RETRY_AFTER;
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Data, ServiceConfig};

use self::headers::{EXTENSIONS, TUS_EXTENSION, TUS_RESUMABLE, TUS_VERSION, VERSION};
use super::{Dialect, cors, sentence};
use crate::app::AppError;
use crate::app::tus::TusError;
use crate::domain::Scope;
use crate::http::family::ApiFamily;
use crate::http::middleware::accept::Produces;
use crate::http::middleware::access::Access::NeedsOrToken;
use crate::http::middleware::request_id::RequestId;
use crate::http::problem::{ApiError, Code, response_head};
use crate::http::routes::{Routes, at};

mod append;
mod create;
mod headers;

/// The routes of tus.
pub(super) struct Tus(pub(super) Dialect);

impl ApiFamily for Tus {
    fn prefix(&self) -> &'static str {
        "/tus"
    }

    fn register(&self, config: &mut ServiceConfig) {
        config.app_data(Data::new(self.0.clone()));
        routes().mount(config);
    }

    fn cors(&self, origins: &[String]) -> Cors {
        let sent = [
            "tus-resumable",
            "upload-length",
            "upload-offset",
            "upload-metadata",
            "upload-defer-length",
            "upload-concat",
            "upload-checksum",
            "x-http-method-override",
        ];
        let read = [
            "upload-offset",
            "upload-length",
            "upload-metadata",
            "upload-defer-length",
            "upload-expires",
            "upload-concat",
            "tus-version",
            "tus-resumable",
            "tus-extension",
            "tus-max-size",
            "tus-checksum-algorithm",
        ];
        cors(origins, &sent, &read)
    }

    fn render(&self, error: &ApiError, _: &RequestId) -> HttpResponse {
        response_head(error)
            .insert_header((TUS_RESUMABLE, VERSION))
            .content_type("text/plain; charset=utf-8")
            .body(sentence(error))
    }
}

fn routes() -> Routes {
    let write = NeedsOrToken(Scope::UploadsWrite);
    let mut routes = Routes::default();
    at("")
        .producing(Produces::Any)
        .on(&[Method::POST], write, create::handle)
        .on(&[Method::OPTIONS], write, create::options)
        .add_to(&mut routes);
    at("/{id}")
        .producing(Produces::Any)
        .on(&[Method::PATCH], write, append::patch)
        .on(&[Method::HEAD], write, append::head)
        .on(&[Method::DELETE], write, append::delete)
        // For clients behind proxies that allow only GET and POST: a header names the method.
        .on(&[Method::POST], write, append::overridden)
        .on(&[Method::OPTIONS], write, create::options)
        .add_to(&mut routes);
    routes
}

/// The error of a request: a status that the tus protocol defines, or an error of the API.
#[derive(Debug)]
enum Refusal {
    Status(u16, String),
    Api(ApiError),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        match error.code() {
            // These errors are temporary, but no tus client retries after 408 or 429.
            Code::Timeout | Code::QuotaExceeded => Self::Status(503, sentence(&error)),
            Code::Ended => Self::Status(410, sentence(&error)),
            _ => Self::Api(error),
        }
    }
}

impl From<AppError> for Refusal {
    fn from(error: AppError) -> Self {
        let text = error.to_string();
        match error {
            AppError::Tus(TusError::Offset { .. }) => Self::Status(409, text),
            AppError::Tus(TusError::Busy) => Self::Status(423, text),
            AppError::Tus(TusError::TooLong { .. }) => Self::Status(413, text),
            AppError::Tus(TusError::Checksum) => Self::Status(460, text),
            AppError::Tus(TusError::Ended(_)) | AppError::State(_) => Self::Status(410, text),
            error => ApiError::from(error).into(),
        }
    }
}

/// Converts the result of a handler. An [`ApiError`] stays an error, which the middleware renders
/// and logs. Every other refusal becomes an ordinary response.
fn respond(result: Result<HttpResponse, Refusal>) -> Result<HttpResponse, ApiError> {
    match result {
        Ok(response) => Ok(response),
        Err(Refusal::Api(error)) => Err(error),
        Err(Refusal::Status(status, sentence)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            let mut response = HttpResponse::build(status);
            response.insert_header((TUS_RESUMABLE, VERSION));
            match status {
                StatusCode::PRECONDITION_FAILED => {
                    response.insert_header((TUS_VERSION, VERSION));
                }
                StatusCode::NOT_IMPLEMENTED => {
                    response.insert_header((TUS_EXTENSION, EXTENSIONS));
                }
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::LOCKED => {
                    response.insert_header((RETRY_AFTER, "1"));
                }
                _ => {}
            }
            Ok(response.content_type("text/plain; charset=utf-8").body(sentence))
        }
    }
}
