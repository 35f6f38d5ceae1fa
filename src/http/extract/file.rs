//! The whole file in a request body: raw, or the part `file` of a form. It is a stream; nothing
//! is buffered here.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest};
use bytes::Bytes;
use futures_util::stream::{self, LocalBoxStream};
use futures_util::{Stream, StreamExt as _};

use super::form::Form;
use super::partial::refuse_partial_headers;
use super::{essence, refuse_encoded, settings};
use crate::app::AppError;
use crate::http::problem::{ApiError, Code};

/// The bytes of a file.
pub type Bytestream = LocalBoxStream<'static, Result<Bytes, AppError>>;

/// A file that is being received.
pub struct FileBody {
    /// Its media type, as declared by the client.
    pub content_type: Option<String>,
    /// Its length in bytes, if the client declared it.
    pub length: Option<u64>,
    /// Its bytes.
    pub bytes: Bytestream,
    /// Whether the client stopped sending.
    pub timeout: BodyTimeout,
}

/// Whether the body was ended because the client sent nothing for too long. A use case sees only
/// an error of the body.
#[derive(Debug, Clone, Default)]
pub struct BodyTimeout(Rc<Cell<bool>>);

impl BodyTimeout {
    /// The error for the client after a use case failed.
    pub fn error(&self, error: AppError) -> ApiError {
        match error {
            AppError::Body(_) if self.0.get() => ApiError::new(Code::Timeout),
            error => error.into(),
        }
    }
}

impl FromRequest for FileBody {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            refuse_encoded(&request)?;
            refuse_partial_headers(request.headers())?;
            let settings = settings(&request)?;
            let timeout = BodyTimeout::default();
            let body = with_timeout(payload, settings.client_timeout, timeout.clone());
            if essence(&request).as_deref() == Some("multipart/form-data") {
                // The other parts may be as large as a JSON body.
                let form = Form::new(request.headers(), body, settings.json_limit);
                let file = form.file().await;
                let (content_type, bytes) = file.map_err(|error| timeout.error(error))?;
                Ok(Self { content_type, length: None, bytes: bytes.boxed_local(), timeout })
            } else {
                Ok(raw(&request, body, timeout))
            }
        })
    }
}

fn raw(
    request: &HttpRequest,
    body: impl Stream<Item = Result<Bytes, PayloadError>> + 'static,
    timeout: BodyTimeout,
) -> FileBody {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    FileBody {
        content_type: header(header::CONTENT_TYPE).map(str::to_owned),
        length: header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok()),
        bytes: body
            .map(|chunk| {
                chunk.map_err(|error| AppError::Body(format!("The body ended early: {error}")))
            })
            .boxed_local(),
        timeout,
    }
}

/// The body, which ends with an error if the client sends nothing for `limit`.
fn with_timeout(
    payload: Payload,
    limit: Duration,
    timeout: BodyTimeout,
) -> impl Stream<Item = Result<Bytes, PayloadError>> + 'static {
    let chunks = stream::unfold(Some((payload, timeout)), move |state| async move {
        let (mut payload, timeout) = state?;
        let Ok(chunk) = tokio::time::timeout(limit, payload.next()).await else {
            timeout.0.set(true);
            let error = io::Error::new(io::ErrorKind::TimedOut, "the client stopped sending");
            return Some((Err(PayloadError::Io(error)), None));
        };
        Some((chunk?, Some((payload, timeout))))
    });
    // The form parser polls again after the end.
    chunks.fuse()
}
