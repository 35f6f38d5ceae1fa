//! The file in a request body: the body itself, or the part `file` of a form. The file is a stream
//! and is not buffered here.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest};
use bytes::Bytes;
use futures_util::stream::{self, LocalBoxStream};
use futures_util::{Stream, StreamExt as _};
use utoipa::ToSchema;

pub use super::form::FilePart;
use super::form::{Form, FormFile};
use super::partial::refuse_partial_headers;
use super::{essence, refuse_encoded, settings};
use crate::app::AppError;
use crate::http::problem::{ApiError, Code};
use crate::http::state::HttpSettings;

/// A form with a file.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents the form")]
pub struct FileForm {
    /// The file.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// The bytes of a file.
pub type Bytestream = LocalBoxStream<'static, Result<Bytes, AppError>>;

/// A file that is being received.
pub struct FileBody {
    /// Its name, if it came in a form.
    pub filename: Option<String>,
    /// Its media type, as declared by the client.
    pub content_type: Option<String>,
    /// Its length in bytes, if the client declared it.
    pub length: Option<u64>,
    /// Its bytes.
    pub bytes: Bytestream,
    /// Records whether the client was too slow.
    pub timeout: BodyTimeout,
}

/// A part of a file that is being received, for the routes that append it to an upload.
pub struct ChunkBody {
    /// Its length in bytes, if the client declared it.
    pub size: Option<u64>,
    /// Its bytes.
    pub bytes: Bytestream,
    /// Records whether the client was too slow.
    pub timeout: BodyTimeout,
}

impl FromRequest for ChunkBody {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let chunk = |settings: HttpSettings| {
            let timeout = BodyTimeout::default();
            let minimum = MinimumRate::new(settings.client_timeout, settings.min_rate);
            let body = with_timeout(payload.take(), minimum, timeout.clone());
            let FileBody { length, bytes, timeout, .. } = raw(request, body, timeout);
            Self { size: length, bytes, timeout }
        };
        ready(refuse_encoded(request).and_then(|()| settings(request)).map(chunk))
    }
}

/// Records that the body was ended because the client was too slow. A use case sees only an error
/// of the body. With this record, the handler returns the right error to the client.
#[derive(Debug, Clone, Default)]
pub struct BodyTimeout(Rc<Cell<Option<TooSlow>>>);

/// The limit that a slow client did not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TooSlow {
    /// The client sent nothing for this long.
    Stopped(Duration),
    /// The client sent fewer bytes per second than this.
    Rate(u64),
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(limit) => {
                write!(f, "Nothing of the body arrived for {} seconds", limit.as_secs_f64())
            }
            Self::Rate(rate) => {
                write!(f, "The body arrived at less than min_rate={rate} bytes per second")
            }
        }
    }
}

impl BodyTimeout {
    /// The error for the client, after a use case failed.
    pub fn error(&self, error: AppError) -> ApiError {
        match (error, self.0.get()) {
            (AppError::Body(_), Some(slow)) => ApiError::saying(Code::Timeout, slow.to_string()),
            (error, _) => error.into(),
        }
    }
}

impl FromRequest for FileBody {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        Self::receive(request, payload, FilePart::NamedFile)
    }
}

impl FileBody {
    /// The file of a request. If the body is a form, `part` selects the part with the file.
    pub(in crate::http) fn receive(
        request: &HttpRequest,
        payload: &mut Payload,
        part: FilePart,
    ) -> Pin<Box<dyn Future<Output = Result<Self, ApiError>>>> {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            refuse_encoded(&request)?;
            refuse_partial_headers(request.headers())?;
            let settings = settings(&request)?;
            let timeout = BodyTimeout::default();
            let minimum = MinimumRate::new(settings.client_timeout, settings.min_rate);
            let body = with_timeout(payload, minimum, timeout.clone());
            if essence(&request).as_deref() == Some("multipart/form-data") {
                // The other parts together may be as large as a JSON body.
                let form = Form::new(request.headers(), body, settings.json_limit, part);
                let file = form.file().await;
                let FormFile { filename, content_type, bytes } =
                    file.map_err(|error| timeout.error(error))?;
                let bytes = bytes.boxed_local();
                Ok(Self { filename, content_type, length: None, bytes, timeout })
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
        filename: None,
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

/// Checks whether a client sends fast enough.
///
/// Only the time during which the service waits for the client is counted, because the service does
/// not read the body while it waits for a slow store.
#[derive(Debug)]
struct MinimumRate {
    /// The longest pause, and the time over which the rate is averaged.
    window: Duration,
    /// Bytes per second; 0 is no limit.
    min_rate: u64,
    /// How long the service waited for the client in this window.
    waited: Duration,
    /// The number of bytes that arrived in this window.
    received: u64,
}

impl MinimumRate {
    fn new(window: Duration, min_rate: u64) -> Self {
        Self { window, min_rate, waited: Duration::ZERO, received: 0 }
    }

    /// Records a chunk and the time that the service waited for it. Returns whether the client is
    /// fast enough.
    fn record(&mut self, waited: Duration, bytes: usize) -> bool {
        self.waited += waited;
        self.received += bytes as u64;
        if self.waited < self.window {
            return true;
        }
        let required = u128::from(self.min_rate) * self.waited.as_millis() / 1000;
        let fast_enough = u128::from(self.received) >= required;
        *self = Self::new(self.window, self.min_rate);
        fast_enough
    }
}

/// The body, which ends with an error if the client is too slow.
fn with_timeout(
    payload: Payload,
    minimum: MinimumRate,
    timeout: BodyTimeout,
) -> impl Stream<Item = Result<Bytes, PayloadError>> + 'static {
    let chunks = stream::unfold(Some((payload, minimum, timeout)), move |state| async move {
        let (mut payload, mut minimum, timeout) = state?;
        let began = Instant::now();
        let slow = match tokio::time::timeout(minimum.window, payload.next()).await {
            Ok(Some(Ok(chunk))) => {
                if minimum.record(began.elapsed(), chunk.len()) {
                    return Some((Ok(chunk), Some((payload, minimum, timeout))));
                }
                TooSlow::Rate(minimum.min_rate)
            }
            Ok(end) => return Some((end?, None)),
            Err(_) => TooSlow::Stopped(minimum.window),
        };
        timeout.0.set(Some(slow));
        let error = io::Error::new(io::ErrorKind::TimedOut, slow.to_string());
        Some((Err(PayloadError::Io(error)), None))
    });
    // The form parser polls a stream again after its end, so the stream is fused.
    chunks.fuse()
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema as _;
    use utoipa::openapi::RefOr;
    use utoipa::openapi::schema::Schema;

    use super::super::form::FILE;
    use super::*;

    #[test]
    fn the_documented_form_has_the_part_that_is_read() {
        let RefOr::T(Schema::Object(form)) = FileForm::schema() else { panic!("no object") };
        assert_eq!(form.properties.keys().collect::<Vec<_>>(), [FILE]);
        assert_eq!(form.required, [FILE]);
    }

    #[test]
    fn the_rate_is_averaged_over_the_time_that_the_client_takes() {
        let second = Duration::from_secs(1);
        let mut minimum = MinimumRate::new(10 * second, 100);
        // A slow store: bytes are available whenever the service reads.
        for _ in 0..1000 {
            assert!(minimum.record(Duration::ZERO, 1));
        }
        let mut minimum = MinimumRate::new(10 * second, 100);
        for _ in 0..9 {
            assert!(minimum.record(second, 0), "the window has not ended");
        }
        assert!(minimum.record(second, 1000), "1000 bytes in 10 s");
        for _ in 0..9 {
            assert!(minimum.record(second, 99));
        }
        assert!(!minimum.record(second, 99), "bytes from before the window do not count");
        let mut unlimited = MinimumRate::new(second, 0);
        assert!(unlimited.record(second, 0));
    }
}
