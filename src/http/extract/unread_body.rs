//! Responds to a request before its body is read.
//!
//! A client may read the response only after it has sent its whole body. If the server closes the
//! connection while bytes are unread, the TCP reset can destroy the response. By default the server
//! waits one second for the end of such a body, which is enough only for a small one. Here the
//! response is sent first. Then the body is read and discarded, within larger limits, and the
//! connection is closed.

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready as now};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::Payload;
use actix_web::http::Version;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Sleep, sleep};

use super::partial::refuse_partial_headers;
use crate::http::problem::ApiError;

/// The maximum number of bytes to discard. Discarding needs no memory, only bandwidth.
const MAX_BYTES: u64 = 64 << 20;

/// The maximum time for discarding bytes.
const MAX_TIME: Duration = Duration::from_secs(20);

/// The unread body of a request. A request that sends only a part of a file is refused.
pub struct UnreadBody {
    payload: Payload,
    version: Version,
}

impl FromRequest for UnreadBody {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = Self { payload: payload.take(), version: request.version() };
        now(refuse_partial_headers(request.headers()).map(|()| body).map_err(ApiError::from))
    }
}

impl UnreadBody {
    /// Returns a response with this text. After the response is sent, the request body is
    /// discarded.
    pub fn respond(self, mut response: HttpResponseBuilder, text: &'static str) -> HttpResponse {
        response.insert_header((CONTENT_TYPE, HeaderValue::from_static("text/plain")));
        let text = Bytes::from_static(text.as_bytes());
        if self.version >= Version::HTTP_2 {
            // In HTTP/2, only the stream is closed, not the connection.
            return response.body(text);
        }
        response.body(ThenDrain::new(text, self.payload, MAX_BYTES, MAX_TIME))
    }
}

/// The text of a response. After it is sent, the body of the request is read and discarded.
struct ThenDrain<S> {
    len: u64,
    text: Option<Bytes>,
    body: S,
    bytes_left: u64,
    deadline: Pin<Box<Sleep>>,
}

impl<S> ThenDrain<S> {
    fn new(text: Bytes, body: S, max_bytes: u64, max_time: Duration) -> Self {
        let deadline = Box::pin(sleep(max_time));
        Self { len: text.len() as u64, text: Some(text), body, bytes_left: max_bytes, deadline }
    }
}

impl<S, E> MessageBody for ThenDrain<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.len)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        if let Some(text) = self.text.take() {
            return Poll::Ready(Some(Ok(text)));
        }
        while self.bytes_left > 0 && self.deadline.as_mut().poll(context).is_pending() {
            let Some(Ok(chunk)) = ready!(Pin::new(&mut self.body).poll_next(context)) else {
                break;
            };
            self.bytes_left = self.bytes_left.saturating_sub(chunk.len() as u64);
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, future, stream};

    use super::*;

    type Chunk = Result<Bytes, Infallible>;

    /// Polls a response until its end. Returns what it sends.
    async fn sent(body: impl Stream<Item = Chunk> + Unpin, bytes: u64, time: Duration) -> Vec<u8> {
        let mut body = ThenDrain::new(Bytes::from_static(b"text"), body, bytes, time);
        assert_eq!(body.size(), BodySize::Sized(4));
        let mut all = Vec::new();
        while let Some(Ok(bytes)) = future::poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await {
            all.extend_from_slice(&bytes);
        }
        all
    }

    #[tokio::test]
    async fn a_body_is_discarded_until_its_end_or_the_byte_limit() {
        let hour = Duration::from_hours(1);
        let mut short =
            stream::iter(std::iter::repeat_n(Chunk::Ok(Bytes::from_static(&[0; 10])), 3));
        assert_eq!(sent(&mut short, 1000, hour).await, b"text");
        assert_eq!(short.next().await, None);
        let mut endless = stream::repeat(Chunk::Ok(Bytes::from_static(&[0; 10]))).enumerate();
        let mut counted = endless.by_ref().map(|(_, chunk)| chunk);
        assert_eq!(sent(&mut counted, 95, hour).await, b"text");
        assert_eq!(endless.next().await.unwrap().0, 10);
    }

    #[tokio::test]
    async fn a_body_that_does_not_arrive_is_discarded_until_the_time_limit() {
        let started = tokio::time::Instant::now();
        let limit = Duration::from_millis(20);
        assert_eq!(sent(stream::pending::<Chunk>(), 1000, limit).await, b"text");
        assert!(started.elapsed() >= limit);
    }
}
