//! The running service: HTTP and the workers, from start to shutdown.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::adapters::{self, Adapters};
use crate::config::Config;
use crate::http::{self, HttpSettings, HttpState};
use crate::reconcile::{Reconciler, marker};
use crate::telemetry::metrics;
use crate::workers::Workers;

/// Waits for SIGTERM or Ctrl-C.
pub async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("can't listen for Ctrl-C"),
    }
}

/// A running service.
pub struct Service {
    addr: SocketAddr,
    adapters: Adapters,
    workers: Workers,
    shutdown_timeout: Duration,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    handle: actix_web::dev::ServerHandle,
}

impl Service {
    /// Starts the HTTP server and the workers; `demo` adds the page to try the service.
    pub async fn start(config: &Config, adapters: Adapters, demo: bool) -> anyhow::Result<Self> {
        let bind = config.server.bind;
        if config.telemetry.metrics {
            metrics::install().context("telemetry.metrics")?;
        }
        marker::write_all(&adapters.app).await.context("the markers of the buckets")?;
        let listener = TcpListener::bind(bind)
            .with_context(|| format!("server.bind: can't listen on {bind}"))?;
        let addr = listener.local_addr().context("server.bind")?;
        let app = Arc::clone(&adapters.app);
        let settings = adapters::reconcile_settings(config);
        let reconciler = Arc::new(Reconciler::new(Arc::clone(&app), settings));
        let security = adapters::security::security_config(config, &app).await?;
        let state = HttpState { app, reconciler: Arc::clone(&reconciler) };
        let settings = HttpSettings {
            shutdown_timeout: config.server.shutdown_timeout.get(),
            json_limit: config.limits.json_body.as_usize(),
            client_timeout: config.limits.request_timeout.get(),
            demo,
            workers: None,
        };
        let server = http::build_with(state, security, settings, listener).context("server")?;
        let handle = server.handle();
        let server = tokio::spawn(server);
        let settings = adapters::workers(config).await?;
        let workers = Workers::start(&reconciler, settings).await.context("reconcile.schedule")?;
        let shutdown_timeout = config.server.shutdown_timeout.get();
        tracing::info!(%addr, "serving");
        Ok(Self { addr, adapters, workers, shutdown_timeout, server, handle })
    }

    /// The address that the server listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until SIGTERM or Ctrl-C, then shuts down in order: the workers and the requests
    /// under way, the stores, the database.
    pub async fn until_stopped(self) -> anyhow::Result<()> {
        let Self { adapters, workers, shutdown_timeout, mut server, handle, .. } = self;
        let ended = tokio::select! {
            signal = stop_signal() => { signal?; None }
            ended = &mut server => Some(ended),
        };
        tracing::info!("stopping");
        // Long polls and event streams would delay the end of the server.
        adapters.app.db.end();
        // The server accepts no new requests from here on and finishes the others.
        let stopping = handle.stop(true);
        workers.stop(shutdown_timeout).await;
        stopping.await;
        let ended = if let Some(ended) = ended { ended } else { server.await };
        adapters.close().await;
        tracing::info!("stopped");
        ended.context("the server task panicked")?.context("the server failed")
    }
}
