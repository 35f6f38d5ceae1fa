//! Request bodies. A body fails if the client stops sending. After a refusal, this server reads and
//! discards what `s3s` has not read.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use s3s::StdError;

use crate::timeouts::IdleTimer;

/// How much of the body of a refused request is read and discarded, in bytes. If the connection
/// closes while the client is still sending, the client sees a reset and not the refusal.
const MAX_DRAIN: usize = 64 * 1024 * 1024;
/// The time limit for discarding the body of a refused request.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// A request's body that can still be read after `s3s` has dropped it.
#[derive(Clone)]
pub(crate) struct SharedBody {
    inner: Arc<Mutex<TimedBody>>,
}

struct TimedBody {
    body: Incoming,
    timer: IdleTimer,
}

impl SharedBody {
    /// A body that fails if no byte arrives for `idle_timeout`.
    pub(crate) fn new(body: Incoming, idle_timeout: Duration) -> Self {
        let timer = IdleTimer::new(idle_timeout);
        Self { inner: Arc::new(Mutex::new(TimedBody { body, timer })) }
    }

    /// Reads and discards the rest of the body, within limits of size and time.
    pub(crate) async fn drain(mut self) {
        let reading = async {
            let mut read = 0;
            while read < MAX_DRAIN
                && let Some(Ok(frame)) = self.frame().await
            {
                read += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        // A slower client sees the reset.
        let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
    }

    fn with<T>(&self, read: impl FnOnce(&Incoming) -> T) -> T {
        read(&self.inner.lock().unwrap_or_else(PoisonError::into_inner).body)
    }
}

impl hyper::body::Body for SharedBody {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let mut shared = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let TimedBody { body, timer } = &mut *shared;
        match Pin::new(body).poll_frame(context) {
            Poll::Ready(frame) => {
                timer.reset();
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => timer
                .poll_expired(context)
                .map(|()| Some(Err("the client stopped sending the body of its request".into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.with(hyper::body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.with(hyper::body::Body::size_hint)
    }
}
