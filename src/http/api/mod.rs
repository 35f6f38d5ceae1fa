//! The routes, one folder a resource, one file an endpoint.

use std::collections::BTreeMap;

use actix_web::guard::{self, Guard};
use actix_web::http::Method;
use actix_web::http::header::HeaderValue;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder};

use super::accept::Gives;
use super::access::{self, Access};
use super::problem::{ApiError, Code};

pub mod demo;
pub mod events;
pub mod orphans;
pub mod problems;
pub mod reconciliations;
pub mod service;
pub mod stats;
pub mod tracks;
pub mod uploads;
pub mod webhooks;

/// Adds all routes, and the answer to paths that are none.
pub fn register(config: &mut ServiceConfig) {
    for endpoint in all().endpoints {
        config.service(endpoint.into_resource());
    }
    config.default_service(web::to(async || {
        Err::<HttpResponse, _>(ApiError::saying(Code::NotFound, "There is no such path"))
    }));
}

/// What each path and method asks of its callers, and gives them; paths as the document writes
/// them.
pub fn rules() -> BTreeMap<(String, String), (Access, Gives)> {
    let mut table = BTreeMap::new();
    for endpoint in all().endpoints {
        // A pattern stands behind a colon, which the document does not show.
        let path = match endpoint.path.split_once(':') {
            Some((before, _)) => format!("{before}}}"),
            None => endpoint.path.to_owned(),
        };
        for (method, access, gives) in endpoint.rules {
            table.insert((path.clone(), method.as_str().to_lowercase()), (access, gives));
        }
    }
    table
}

fn all() -> Routes {
    let mut routes = Routes::default();
    // They are tried in this order: first those that are asked for most.
    uploads::register(&mut routes);
    tracks::register(&mut routes);
    service::register(&mut routes);
    reconciliations::register(&mut routes);
    orphans::register(&mut routes);
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

/// A path and its methods, each with what it asks of its callers and what it gives: GET brings
/// HEAD along, and every other method is answered with 405 and `Allow`.
struct Endpoint {
    path: &'static str,
    resource: Resource,
    gives: Gives,
    rules: Vec<(Method, Access, Gives)>,
}

fn at(path: &'static str) -> Endpoint {
    Endpoint { path, resource: web::resource(path), gives: Gives::Json, rules: Vec::new() }
}

impl Endpoint {
    /// What the methods that follow give, where that is not JSON.
    fn giving(self, gives: Gives) -> Self {
        Self { gives, ..self }
    }

    fn on<F, Args>(mut self, methods: &[Method], access: Access, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let gives = self.gives;
        self.rules.extend(methods.iter().map(|method| (method.clone(), access, gives)));
        let route = web::route()
            .guard(one_of(methods))
            .to(handler)
            .wrap(from_fn(move |request, next| access::admit(access, gives, request, next)));
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
