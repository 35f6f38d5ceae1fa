//! The accept loop, the limits of connections, and the shutdown.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Limits;
use crate::middleware::Middleware;
use crate::timeouts::WriteTimeout;

/// The pause after a failed accept, which usually means that no file descriptor is left. It avoids
/// a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` is cancelled. If this task is aborted, its connections end too.
pub(crate) async fn serve(
    listener: TcpListener,
    middleware: Middleware,
    limits: Limits,
    stop: CancellationToken,
    grace: Duration,
) {
    let mut connections = JoinSet::new();
    let permits = Arc::new(Semaphore::new(limits.max_connections.max(1)));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (permit, accepted) = accept(&listener, &permits) => match accepted {
                Ok(stream) => {
                    let serving = connection(stream, middleware.clone(), limits, stop.clone());
                    connections.spawn(async move {
                        let _permit = permit;
                        serving.await;
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "embedded S3 could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, finished).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "embedded S3 interrupted requests in progress"
        );
        connections.shutdown().await;
    }
    middleware.close().await;
}

/// Waits for a permit first. Further connections wait in the queue of the operating system.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (Option<OwnedSemaphorePermit>, std::io::Result<TcpStream>) {
    // The semaphore is never closed.
    let permit = Arc::clone(permits).acquire_owned().await.ok();
    (permit, listener.accept().await.map(|(stream, _)| stream))
}

async fn connection(
    stream: TcpStream,
    middleware: Middleware,
    limits: Limits,
    stop: CancellationToken,
) {
    // Responses are small, and the client waits for them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let middleware = middleware.clone();
        async move { Ok::<_, Infallible>(middleware.handle(request).await) }
    });
    // The time-out of the headers also ends a connection that sends no request.
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    let stream = WriteTimeout::new(stream, limits.idle_timeout);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        // Clients may close a connection at any time.
        tracing::debug!(error = %error, "an embedded S3 connection ended early");
    }
}
