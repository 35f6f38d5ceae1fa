//! The native API: one folder per resource, one file per endpoint. [`super`] has the steps for
//! adding a route.

use std::collections::BTreeMap;

use actix_cors::Cors;
use actix_web::guard::{self, Guard};
use actix_web::http::Method;
use actix_web::http::header::HeaderValue;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder};

use super::family::ApiFamily;
use super::middleware::accept::Produces;
use super::middleware::access::{Access, authorize};
use super::middleware::request_id::RequestId;
use super::problem::{ApiError, Code, problem_response};
use crate::app::App;

pub mod admin_uploads;
pub mod attachments;
mod cors;
pub mod demo;
pub mod events;
pub mod instance;
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
    /// The content security policy of `/demo`; `None` if it is not served.
    demo: Option<String>,
}

impl NativeApi {
    /// The API, with `/demo` over these use cases if there are any.
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
        for endpoint in routes().endpoints {
            config.service(endpoint.into_resource());
        }
        config.default_service(web::to(async || {
            Err::<HttpResponse, _>(ApiError::saying(Code::NotFound, "There is no such path"))
        }));
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
        // The document does not show the pattern after a colon.
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
    admin_uploads::register(&mut routes);
    orphans::register(&mut routes);
    instance::register(&mut routes);
    stats::register(&mut routes);
    events::register(&mut routes);
    webhooks::register(&mut routes);
    problems::register(&mut routes);
    routes
}

/// All endpoints.
#[derive(Default)]
struct Routes {
    endpoints: Vec<Endpoint>,
}

/// A path and its methods, each with its access rule and media type. GET includes HEAD. Every
/// other method is answered with 405 and `Allow`.
struct Endpoint {
    path: &'static str,
    resource: Resource,
    produces: Produces,
    rules: Vec<(Method, Access, Produces)>,
}

fn at(path: &'static str) -> Endpoint {
    Endpoint { path, resource: web::resource(path), produces: Produces::Json, rules: Vec::new() }
}

impl Endpoint {
    /// The media type of the methods that follow, if it is not JSON.
    fn producing(self, produces: Produces) -> Self {
        Self { produces, ..self }
    }

    fn on<F, Args>(mut self, methods: &[Method], access: Access, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let produces = self.produces;
        self.rules.extend(methods.iter().map(|method| (method.clone(), access, produces)));
        let route = web::route()
            .guard(one_of(methods))
            .to(handler)
            .wrap(from_fn(move |request, next| authorize(access, produces, request, next)));
        Self { resource: self.resource.route(route), ..self }
    }

    fn get<F, Args>(self, access: Access, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(&[Method::GET, Method::HEAD], access, handler)
    }

    fn add_to(self, routes: &mut Routes) {
        routes.endpoints.push(self);
    }

    fn into_resource(self) -> Resource {
        let names: Vec<_> = self.rules.iter().map(|(method, ..)| method.as_str()).collect();
        let allow = HeaderValue::from_str(&names.join(", "));
        let allow = allow.unwrap_or(HeaderValue::from_static(""));
        self.resource.default_service(web::to(move || {
            let refused = ApiError::method_not_allowed(allow.clone());
            async { Err::<HttpResponse, _>(refused) }
        }))
    }
}

fn one_of(methods: &[Method]) -> impl Guard + use<> {
    let methods = methods.to_vec();
    guard::fn_guard(move |context| methods.contains(&context.head().method))
}
