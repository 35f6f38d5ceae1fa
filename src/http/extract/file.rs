//! A file in a request's body: raw, or the part `file` of a form. It is handed on as it
//! comes; nothing of it is kept here.

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

/// A file on its way in.
pub struct FileBody {
    /// Its media type, as the client says.
    pub content_type: Option<String>,
    /// Its length in bytes, where the client says one.
    pub length: Option<u64>,
    /// Its bytes.
    pub bytes: Bytestream,
    /// Whether the client stopped sending.
    pub stall: Stall,
}

/// Whether a body was ended because nothing came for too long. A use case only knows that
/// it broke off.
#[derive(Debug, Clone, Default)]
pub struct Stall(Rc<Cell<bool>>);

impl Stall {
    /// The problem for a failed use case.
    pub fn explain(&self, error: AppError) -> ApiError {
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
            let stall = Stall::default();
            let body = timed(payload, settings.client_timeout, stall.clone());
            if essence(&request).as_deref() == Some("multipart/form-data") {
                let form = Form {
                    parts: Multipart::new(request.headers(), body),
                    // As much beside the file as a JSON body may have.
                    allowance: settings.json_limit,
                };
                form.file(stall).await
            } else {
                Ok(raw(&request, body, stall))
            }
        })
    }
}

fn raw(
    request: &HttpRequest,
    body: impl Stream<Item = Result<Bytes, PayloadError>> + 'static,
    stall: Stall,
) -> FileBody {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    FileBody {
        content_type: header(header::CONTENT_TYPE).map(str::to_owned),
        length: header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok()),
        bytes: body
            .map(|chunk| {
                chunk.map_err(|error| AppError::Body(format!("The body broke off: {error}")))
            })
            .boxed_local(),
        stall,
    }
}

/// The body, ended with an error once nothing came for `limit`.
fn timed(
    payload: Payload,
    limit: Duration,
    stall: Stall,
) -> impl Stream<Item = Result<Bytes, PayloadError>> + 'static {
    let chunks = stream::unfold(Some((payload, stall)), move |state| async move {
        let (mut payload, stall) = state?;
        let Ok(chunk) = tokio::time::timeout(limit, payload.next()).await else {
            stall.0.set(true);
            let error = io::Error::new(io::ErrorKind::TimedOut, "nothing came for too long");
            return Some((Err(PayloadError::Io(error)), None));
        };
        Some((chunk?, Some((payload, stall))))
    });
    // The form's parser asks again after the end.
    chunks.fuse()
}

struct Form {
    parts: Multipart,
    allowance: usize,
}

impl Form {
    /// The form's file, with nothing of it read yet.
    async fn file(mut self, stall: Stall) -> Result<FileBody, ApiError> {
        let part = match self.next_file().await {
            Ok(part) => part,
            Err(error) => return Err(stall.explain(error)),
        };
        let Some(part) = part else {
            return Err(ApiError::field(FILE, "The form has no part named file"));
        };
        let content_type = part.content_type().map(ToString::to_string);
        let bytes = stream::try_unfold((self, Some(part)), |(mut form, part)| async move {
            if let Some(mut part) = part
                && let Some(chunk) = part.next().await
            {
                return Ok(Some((chunk.map_err(|error| broken(&error))?, (form, Some(part)))));
            }
            // The form goes on to its end: one that is cut off is not taken for whole.
            match form.next_file().await? {
                None => Ok(None),
                Some(_) => Err(AppError::field(FILE, "The form has more than one part named file")),
            }
        });
        Ok(FileBody { content_type, length: None, bytes: bytes.boxed_local(), stall })
    }

    /// The next part that holds a file; what is before it is read over.
    async fn next_file(&mut self) -> Result<Option<Field>, AppError> {
        while let Some(part) = self.parts.next().await {
            let mut part = part.map_err(|error| broken(&error))?;
            if part.name() == Some(FILE) {
                return Ok(Some(part));
            }
            while let Some(chunk) = part.next().await {
                let length = chunk.map_err(|error| broken(&error))?.len();
                self.allowance = self.allowance.checked_sub(length).ok_or_else(|| {
                    AppError::Body("The form has too much in it beside the file".to_owned())
                })?;
            }
        }
        Ok(None)
    }
}

fn broken(error: &FormError) -> AppError {
    AppError::Body(format!("The form can't be read: {error}"))
}
