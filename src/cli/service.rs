//! The running service: HTTP, workers, and how it ends.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::adapters::{self, Adapters};
use super::queue;
use crate::app::poller::Pollers;
use crate::app::webhooks::Couriers;
use crate::config::Config;
use crate::domain::run::{Mode, Trigger};
use crate::http::{self, HttpSettings, HttpState};
use crate::reconcile::{Reconciler, marker};
use crate::telemetry::metrics;
use crate::workers::{self, Scheduler};

/// Waits for SIGTERM or Ctrl-C.
pub async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("can't listen for Ctrl-C"),
    }
}

/// A service that answers.
pub struct Service {
    addr: SocketAddr,
    adapters: Adapters,
    reconciler: Arc<Reconciler>,
    scheduler: Scheduler,
    couriers: Couriers,
    pollers: Pollers,
    patience: std::time::Duration,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    handle: actix_web::dev::ServerHandle,
}

impl Service {
    /// Binds, schedules and serves; with `demo`, the page to try it with too.
    pub async fn start(config: &Config, adapters: Adapters, demo: bool) -> anyhow::Result<Self> {
        let bind = config.server.bind;
        if config.telemetry.metrics {
            metrics::install().context("telemetry.metrics")?;
        }
        marker::claim(&adapters.app).await.context("the markers of the buckets")?;
        let listener = TcpListener::bind(bind)
            .with_context(|| format!("server.bind: can't listen on {bind}"))?;
        let addr = listener.local_addr().context("server.bind")?;
        let app = Arc::clone(&adapters.app);
        let settings = adapters::reconcile_settings(config);
        let reconciler = Arc::new(Reconciler::new(Arc::clone(&app), settings));
        let security = super::security::security_config(config, &app).await?;
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
        let scheduler = Scheduler::start(&reconciler, &adapters::schedules(config))
            .await
            .context("reconcile.schedule")?;
        let couriers = adapters::couriers(config, &adapters.app);
        reconciler.take_part();
        let pollers = queue::pollers(config, &adapters.app).await?;
        let patience = config.server.shutdown_timeout.get();
        if config.reconcile.run_at_start {
            let reconciler = Arc::clone(&reconciler);
            tokio::spawn(async move {
                workers::reconcile(&reconciler, Mode::Incremental, Trigger::Startup).await;
            });
        }
        tracing::info!(%addr, "serving");
        Ok(Self {
            addr,
            adapters,
            reconciler,
            scheduler,
            couriers,
            pollers,
            patience,
            server,
            handle,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until SIGTERM or Ctrl-C, then ends in order: no new work, the runs, the
    /// requests under way, the stores and the database.
    pub async fn until_stopped(self) -> anyhow::Result<()> {
        let Self { adapters, reconciler, scheduler, couriers, pollers, .. } = self;
        let Self { patience, mut server, handle, .. } = self;
        let ended = tokio::select! {
            told = stop_signal() => { told?; None }
            ended = &mut server => Some(ended),
        };
        tracing::info!("stopping");
        // Long polls and event streams would hold up the server's end.
        adapters.app.db.end();
        if let Err(error) = scheduler.stop().await {
            tracing::warn!(%error, "the scheduler did not stop");
        }
        drop(couriers);
        // Nothing new is accepted from here on; runs are left to others, requests finish.
        let stopping = handle.stop(true);
        reconciler.shut_down().await;
        pollers.stop(patience).await;
        stopping.await;
        let ended = if let Some(ended) = ended { ended } else { server.await };
        adapters.close().await;
        tracing::info!("stopped");
        ended.context("the server's task broke down")?.context("the server broke down")
    }
}
