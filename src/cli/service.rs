//! The running service: HTTP and the workers, from start to shutdown.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::adapters::{self, Adapters};
use super::patience::Patience;
use super::shutdown::{CLOSE_TIMEOUT, Shutdown, StopSignals};
use crate::config::Config;
use crate::http::{self, Draining, HttpSettings, HttpState};
use crate::reconcile::Reconciler;
use crate::telemetry::metrics;
use crate::workers::Workers;

/// A running service.
pub struct Service {
    addr: SocketAddr,
    adapters: Adapters,
    workers: Workers,
    draining: Draining,
    drain_delay: Duration,
    shutdown_timeout: Duration,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    handle: actix_web::dev::ServerHandle,
}

impl Service {
    /// Starts the HTTP server and the workers. `demo` adds the demo page.
    pub async fn start(
        config: &Config,
        adapters: Adapters,
        patience: &Patience,
        demo: bool,
    ) -> anyhow::Result<Self> {
        let bind = config.server.bind;
        if config.telemetry.metrics {
            metrics::install().context("telemetry.metrics")?;
        }
        let markers =
            async || adapters.app.check_buckets().await.context("the markers of the buckets");
        patience.until_available("the database and the stores", markers).await?;
        adapters.app.forget_disabled_retentions().await.context("unattached uploads")?;
        let listener = TcpListener::bind(bind)
            .with_context(|| format!("server.bind: can't listen on {bind}"))?;
        let addr = listener.local_addr().context("server.bind")?;
        let app = Arc::clone(&adapters.app);
        let settings = adapters::reconcile_settings(config);
        let reconciler = Arc::new(Reconciler::new(Arc::clone(&app), settings));
        let security = adapters::security::security_config(config, &app).await?;
        let draining = Draining::default();
        let state =
            HttpState { app, reconciler: Arc::clone(&reconciler), draining: draining.clone() };
        let settings = HttpSettings {
            shutdown_timeout: config.server.shutdown_timeout.get(),
            json_limit: config.limits.json_body.as_usize(),
            client_timeout: config.limits.request_timeout.get(),
            min_rate: config.direct_upload.min_rate.bytes(),
            demo,
            workers: None,
        };
        let server = http::build_with(state, security, settings, listener).context("server")?;
        let handle = server.handle();
        let server = tokio::spawn(server);
        let settings = adapters::workers(config).await?;
        let workers = Workers::start(&reconciler, settings).await.context("reconcile.schedule")?;
        let shutdown_timeout = config.server.shutdown_timeout.get();
        let drain_delay = config.server.drain_delay.get();
        tracing::info!(%addr, "serving");
        Ok(Self {
            addr,
            adapters,
            workers,
            draining,
            drain_delay,
            shutdown_timeout,
            server,
            handle,
        })
    }

    /// The address that the server listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until SIGTERM or Ctrl-C, then shuts down in this order: `readyz` fails for
    /// `server.drain_delay`; the workers and the requests in progress end; the stores are closed;
    /// the database is closed. A deadline or a second signal ends the process even if a step hangs.
    pub async fn until_stopped(self) -> anyhow::Result<()> {
        let Self { adapters, workers, draining, drain_delay, shutdown_timeout, handle, .. } = self;
        let mut server = self.server;
        let mut signals = StopSignals::listen()?;
        let ended = tokio::select! {
            () = signals.next() => None,
            ended = &mut server => Some(ended),
        };
        let drain_delay = if ended.is_none() { drain_delay } else { Duration::ZERO };
        let shutdown = Shutdown::begin(drain_delay + shutdown_timeout + CLOSE_TIMEOUT, signals)?;
        draining.begin();
        if !drain_delay.is_zero() {
            tracing::info!(seconds = drain_delay.as_secs_f64(), "draining: readyz fails");
            tokio::time::sleep(drain_delay).await;
        }
        tracing::info!("stopping");
        // Long polls and event streams would delay the end of the server.
        adapters.app.db.end();
        // From here on the server accepts no new requests and finishes the current ones.
        let stopping = handle.stop(true);
        tokio::join!(
            shutdown.track("background work", workers.stop(shutdown_timeout)),
            shutdown.track("requests", stopping),
        );
        let ended = if let Some(ended) = ended { ended } else { server.await };
        shutdown.track("connections to the database and the stores", adapters.close()).await;
        tracing::info!("stopped");
        ended.context("the server task panicked")?.context("the server failed")
    }
}
