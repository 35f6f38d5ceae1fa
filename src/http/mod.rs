//! The HTTP API: typed input at the edge, use cases behind it, problems on the way out.
//!
//! To add a route:
//! 1. a file `api/<resource>/<verb>.rs` with one `handle`, documented by
//!    `#[utoipa::path]`; its input becomes typed values in an extractor ([`extract`]) or
//!    in the resource's `body.rs`, and the handler calls one use case, whose view is the
//!    [`Answer`](answer::Answer);
//! 2. a line in `register` of `api/<resource>/mod.rs`, which says what scope its callers
//!    need ([`access`]) and, where that is not JSON, what it gives ([`accept`]), and also makes
//!    HEAD, 405 and `Allow` right;
//! 3. a line in `paths(...)` of [`openapi`], then `UPDATE_SNAPSHOTS=1 cargo test` writes
//!    `openapi.json` anew; a test holds the document and the routes together.
//!
//! Every handler takes a [`Caller`](extract::Caller), and what belongs to someone is
//! reached only through its owner. What goes wrong is an [`ApiError`](problem::ApiError).

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::{Condition, NormalizePath, from_fn};
use actix_web::web::Data;
use actix_web::{App as Actix, HttpServer};

use crate::app::App;
use crate::reconcile::Reconciler;

pub mod accept;
pub mod access;
pub mod answer;
pub mod api;
pub mod edge;
pub mod extract;
mod meter;
pub mod openapi;
pub mod problem;
pub mod rate_limit;
pub mod request_id;
pub mod security;
mod shared;
pub mod views;

use access::Protection;

/// What handlers work with.
#[derive(Clone)]
pub struct HttpState {
    /// The use cases.
    pub app: Arc<App>,
    /// Starts reconciliation runs.
    pub reconciler: Arc<Reconciler>,
}

/// How the server behaves.
#[derive(Debug, Clone, Copy)]
pub struct HttpSettings {
    /// How long requests under way may go on once the service is told to end.
    pub shutdown_timeout: Duration,
    /// The largest JSON body, in bytes.
    pub json_limit: usize,
    /// How long a client may take for a request's head or for a JSON body, and how long
    /// it may send nothing of a file or keep an idle connection.
    pub client_timeout: Duration,
    /// Whether `/demo` is there.
    pub demo: bool,
    /// Threads that serve; one for each core where none is said.
    pub workers: Option<usize>,
}

/// Builds the server on a listener, with what lets requests in. Signals are the caller's:
/// stop it by its handle.
pub fn build_with(
    state: HttpState,
    protection: impl Into<Protection>,
    settings: HttpSettings,
    listener: TcpListener,
) -> std::io::Result<Server> {
    let document = openapi::document().map_err(std::io::Error::other)?;
    let document = Data::new(openapi::Document(document.into()));
    let demo = settings.demo.then(|| api::demo::content_security_policy(&state.app));
    let readiness = Data::new(api::service::readyz::Latest::default());
    let state = Data::new(state);
    let mut protection = protection.into();
    let (tls, origins) = (protection.tls.take(), protection.cors_origins.clone());
    let protection = Data::new(protection);
    let server = HttpServer::new(move || {
        Actix::new()
            .app_data(state.clone())
            .app_data(protection.clone())
            .app_data(Data::new(settings))
            .app_data(document.clone())
            .app_data(readiness.clone())
            .configure(|config| {
                if let Some(policy) = &demo {
                    api::demo::register(config, policy);
                }
            })
            .configure(api::register)
            // The last one is the first to see a request.
            .wrap(NormalizePath::trim())
            .wrap(from_fn(edge::edge))
            .wrap(Condition::new(!origins.is_empty(), security::cors(&origins)))
            .wrap_fn(edge::traced)
    })
    .client_request_timeout(settings.client_timeout)
    .keep_alive(settings.client_timeout)
    .shutdown_timeout(settings.shutdown_timeout.as_secs())
    .disable_signals();
    let server = match settings.workers {
        Some(workers) => server.workers(workers.max(1)),
        None => server,
    };
    let server = match tls {
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
}
