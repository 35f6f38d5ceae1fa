//! The HTTP API: extractors parse the request, a handler calls one use case, a view is the
//! response, and errors become problem documents.
//!
//! | folder | content |
//! | --- | --- |
//! | [`api`] | the native API, one file per endpoint: `api/<resource>/<verb>.rs` |
//! | [`dialects`] | the wire formats of other upload clients |
//! | [`family`] | the trait that the native API and each dialect implement |
//! | [`middleware`] | code that runs around every handler: log, errors, access control |
//! | [`extract`] | parsing and validation of input |
//! | [`problem`] | the kinds of problems, and errors as problem documents |
//! | [`views`] | the JSON of responses |
//!
//! To add a route:
//! 1. Add `api/<resource>/<verb>.rs` with one function `handle`, documented by `#[utoipa::path]`.
//!    Its arguments are extractors ([`extract`]); a JSON body is a type in the resource's
//!    `body.rs`, converted to a type of `app` or `domain` by `TryFrom`. The handler calls one use
//!    case of [`App`](crate::app::App) and returns a view ([`views`]). It does not call the
//!    database.
//! 2. Add a line to `register` in `api/<resource>/mod.rs`. It declares the scope that callers need
//!    ([`Access`](middleware::access::Access)) and the media type, if that is not JSON
//!    ([`Produces`](middleware::accept::Produces)). HEAD, 405 and `Allow` need no further code.
//! 3. Add a line to `paths(...)` in [`openapi`] and run `UPDATE_SNAPSHOTS=1 cargo test`, which
//!    writes `openapi.json`. Tests compare the document with the routes.
//!
//! Handlers get a [`Caller`](extract::Caller), and use cases take its owner, so that a caller can
//! use only its own resources. Handlers return [`ApiError`](problem::ApiError), to which the errors
//! of use cases convert.

use std::net::TcpListener;
use std::sync::Arc;

use actix_cors::Cors;
use actix_web::dev::Server;
use actix_web::guard::fn_guard;
use actix_web::middleware::{Condition, NormalizePath, from_fn};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App as Actix, HttpResponse, HttpServer, Route, Scope};

pub mod api;
pub mod dialects;
mod event_stream;
pub mod extract;
pub mod family;
pub mod middleware;
pub mod openapi;
pub mod problem;
mod routes;
mod single_flight;
pub mod state;
pub mod views;

pub use state::{Draining, EventAuth, HttpSettings, HttpState, SecurityConfig};

use api::NativeApi;
use family::ApiFamily;
use middleware::errors::handle_errors;
use middleware::preflight::list_allowed;
use middleware::request_log::log_request;
use middleware::token_prefix::{is_allowed_by_token, strip_token_prefix};
use problem::{ApiError, Code};

/// Builds the server on a listener. The server ignores signals: the caller stops it through its
/// handle.
pub fn build_with(
    state: HttpState,
    security: impl Into<SecurityConfig>,
    settings: HttpSettings,
    listener: TcpListener,
) -> std::io::Result<Server> {
    let native: Arc<dyn ApiFamily> = Arc::new(NativeApi::new(settings.demo.then_some(&*state.app)));
    let readiness = Data::new(api::service::readyz::Latest::default());
    let state = Data::new(state);
    let mut security = security.into();
    let tls = security.tls.take();
    let dialects = security.dialects.clone();
    let shown = openapi::DocumentConfig {
        public_url: &security.public_url,
        authentication: !security.auth.is_open(),
    };
    let document = openapi::document(&shown).map_err(std::io::Error::other)?;
    let document = Data::new(openapi::Document(document.into()));
    let security = Data::new(security);
    let server = HttpServer::new(move || {
        Actix::new()
            .app_data(state.clone())
            .app_data(security.clone())
            .app_data(Data::new(settings))
            .app_data(document.clone())
            .app_data(readiness.clone())
            .configure(|config| {
                // The native API has an empty prefix, so it is tried last.
                for family in dialects.iter().chain([&native]) {
                    mount(config, family, &security.cors_origins);
                }
            })
            .default_service(not_found(&native))
            // The last middleware sees a request first.
            .wrap_fn(log_request)
            .wrap(from_fn(strip_token_prefix))
            .wrap(NormalizePath::trim())
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

/// The route for a request target without a path, such as `OPTIONS *`, which no prefix matches.
/// Returns 404.
fn not_found(family: &Arc<dyn ApiFamily>) -> Route {
    let family = Arc::clone(family);
    web::to(async || Err::<HttpResponse, _>(ApiError::new(Code::NotFound)))
        .wrap(from_fn(move |request, next| handle_errors(Arc::clone(&family), request, next)))
}

/// Adds a family's routes with its CORS headers and its errors: once for web pages that the upload
/// token in the path allows, and once for all other requests.
fn mount(config: &mut ServiceConfig, family: &Arc<dyn ApiFamily>, origins: &[String]) {
    let by_token = family.cors(&[]).allow_any_origin();
    let scope = web::scope(family.prefix()).guard(fn_guard(is_allowed_by_token));
    mount_in(scope, config, family, Condition::new(true, by_token));
    let cors = Condition::new(!origins.is_empty(), family.cors(origins));
    mount_in(web::scope(family.prefix()), config, family, cors);
}

fn mount_in(
    scope: Scope,
    config: &mut ServiceConfig,
    family: &Arc<dyn ApiFamily>,
    cors: Condition<Cors>,
) {
    let errors = Arc::clone(family);
    config.service(
        scope
            .configure(|config| family.register(config))
            .wrap(from_fn(move |request, next| handle_errors(Arc::clone(&errors), request, next)))
            .wrap(cors)
            .wrap_fn(list_allowed),
    );
}
