//! A file in a request body: raw, or the part `file` of a form. It is a stream; nothing is
//! buffered here.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use actix_multipart::{Field, Multipart, MultipartError as FormError};
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest};
use bytes::Bytes;
use futures_util::stream::{self, LocalBoxStream};
use futures_util::{Stream, StreamExt as _};

use super::{essence, refuse_encoded, settings};
use crate::app::AppError;
use crate::http::problem::{ApiError, Code};

/// The name of the part that holds the file.
const FILE: &str = "file";

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
            let settings = settings(&request)?;
            let timeout = BodyTimeout::default();
            let body = with_timeout(payload, settings.client_timeout, timeout.clone());
            if essence(&request).as_deref() == Some("multipart/form-data") {
                let form = Form {
                    parts: Multipart::new(request.headers(), body),
                    // The other parts may be as large as a JSON body.
                    allowance: settings.json_limit,
                };
                form.file(timeout).await
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

struct Form {
    parts: Multipart,
    allowance: usize,
}

impl Form {
    /// The form's file, of which nothing has been read yet.
    async fn file(mut self, timeout: BodyTimeout) -> Result<FileBody, ApiError> {
        let part = match self.next_file().await {
            Ok(part) => part,
            Err(error) => return Err(timeout.error(error)),
        };
        let Some(part) = part else {
            return Err(ApiError::field(FILE, "The form has no part named `file`"));
        };
        let content_type = part.content_type().map(ToString::to_string);
        let bytes = stream::try_unfold((self, Some(part)), |(mut form, part)| async move {
            if let Some(mut part) = part
                && let Some(chunk) = part.next().await
            {
                return Ok(Some((chunk.map_err(|error| form_error(&error))?, (form, Some(part)))));
            }
            // The form is read to its end, so that a truncated form is an error.
            match form.next_file().await? {
                None => Ok(None),
                Some(_) => {
                    Err(AppError::field(FILE, "The form has more than one part named `file`"))
                }
            }
        });
        Ok(FileBody { content_type, length: None, bytes: bytes.boxed_local(), timeout })
    }

    /// The next part that contains a file. Parts before it are skipped.
    async fn next_file(&mut self) -> Result<Option<Field>, AppError> {
        while let Some(part) = self.parts.next().await {
            let mut part = part.map_err(|error| form_error(&error))?;
            if part.name() == Some(FILE) {
                return Ok(Some(part));
            }
            while let Some(chunk) = part.next().await {
                let length = chunk.map_err(|error| form_error(&error))?.len();
                self.allowance = self.allowance.checked_sub(length).ok_or_else(|| {
                    AppError::Body("The form has too much data beside the file".to_owned())
                })?;
            }
        }
        Ok(None)
    }
}

fn form_error(error: &FormError) -> AppError {
    AppError::Body(format!("The form cannot be read: {error}"))
}
