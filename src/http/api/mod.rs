//! The native API: one folder per resource, one file per endpoint. [`super`] has the steps for
//! adding a route.

use std::collections::BTreeMap;

use actix_cors::Cors;
use actix_web::HttpResponse;
use actix_web::web::ServiceConfig;

use super::family::ApiFamily;
use super::middleware::accept::Produces;
use super::middleware::access::Access;
use super::middleware::request_id::RequestId;
use super::problem::{ApiError, problem_response};
use super::routes::{Routes, at};
use crate::app::App;

pub mod admin_uploads;
pub mod attachments;
mod cors;
pub mod demo;
pub mod events;
pub mod instance;
pub mod moves;
pub mod orphans;
pub mod problems;
pub mod reconciliations;
pub mod service;
pub mod stats;
pub mod tracks;
pub mod upload_tokens;
pub mod uploads;
pub mod webhooks;

/// The native API. Its errors are problem documents.
#[derive(Default)]
pub struct NativeApi {
    /// The content security policy of `/demo`. `None` if `/demo` is not served.
    demo: Option<String>,
}

impl NativeApi {
    /// Returns the API. If `demo` is not `None`, `/demo` is served. Its content security policy
    /// allows the stores of this [`App`].
    pub fn new(demo: Option<&App>) -> Self {
        Self { demo: demo.map(demo::content_security_policy) }
    }
}

impl ApiFamily for NativeApi {
    fn prefix(&self) -> &'static str {
        ""
    }

    fn register(&self, config: &mut ServiceConfig) {
        if let Some(policy) = &self.demo {
            demo::register(config, policy);
        }
        routes().mount(config);
    }

    fn cors(&self, origins: &[String]) -> Cors {
        cors::cors(origins)
    }

    fn render(&self, error: &ApiError, request: &RequestId) -> HttpResponse {
        problem_response(error, Some(request))
    }
}

/// The access rule and media type of each path and method. Paths are as in the OpenAPI document.
pub fn rules() -> BTreeMap<(String, String), (Access, Produces)> {
    let mut table = BTreeMap::new();
    for endpoint in routes().endpoints {
        // A path parameter can have a pattern: `{name:pattern}`. The OpenAPI document has `{name}`.
        let path = match endpoint.path.split_once(':') {
            Some((before, _)) => format!("{before}}}"),
            None => endpoint.path.to_owned(),
        };
        for (method, access, produces) in endpoint.rules {
            table.insert((path.clone(), method.as_str().to_lowercase()), (access, produces));
        }
    }
    table
}

fn routes() -> Routes {
    let mut routes = Routes::default();
    // Routes are tried in this order, so the most frequent ones are first.
    uploads::register(&mut routes);
    tracks::register(&mut routes);
    attachments::register(&mut routes);
    upload_tokens::register(&mut routes);
    service::register(&mut routes);
    reconciliations::register(&mut routes);
    moves::register(&mut routes);
    admin_uploads::register(&mut routes);
    orphans::register(&mut routes);
    instance::register(&mut routes);
    stats::register(&mut routes);
    events::register(&mut routes);
    webhooks::register(&mut routes);
    problems::register(&mut routes);
    routes
}
