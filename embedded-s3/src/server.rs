//! The accept loop, and the orderly end of connections.

use std::convert::Infallible;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::middleware::Middleware;

/// After a failed accept (out of file descriptors, mostly) a pause, not a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until stopped. Connections belong to this task: aborting it ends them.
pub(crate) async fn serve(
    listener: TcpListener,
    middleware: Middleware,
    stop: CancellationToken,
    grace: Duration,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, middleware.clone(), stop.clone()));
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
        tracing::warn!(connections = connections.len(), "embedded S3 cut running requests off");
        connections.shutdown().await;
    }
    middleware.close().await;
}

async fn connection(stream: TcpStream, middleware: Middleware, stop: CancellationToken) {
    // Answers are small and latency is what a test waits for.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let middleware = middleware.clone();
        async move { Ok::<_, Infallible>(middleware.handle(request).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new()).http1_only();
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
        // Clients hang up as they please; that is no error of this server.
        tracing::debug!(error = %error, "an embedded S3 connection ended early");
    }
}
