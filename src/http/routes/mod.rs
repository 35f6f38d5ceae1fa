//! The routes, one folder a resource, one file an endpoint.

use actix_web::guard::{self, Guard};
use actix_web::http::Method;
use actix_web::http::header::HeaderValue;
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder};

use super::problem::{ApiError, Code};

pub mod demo;
pub mod events;
pub mod orphans;
pub mod reconciliations;
pub mod service;
pub mod stats;
pub mod tracks;
pub mod uploads;
pub mod webhooks;

/// Adds all routes, and the answer to paths that are none.
pub fn register(config: &mut ServiceConfig) {
    service::register(config);
    tracks::register(config);
    uploads::register(config);
    reconciliations::register(config);
    orphans::register(config);
    stats::register(config);
    events::register(config);
    webhooks::register(config);
    config.default_service(web::to(async || {
        Err::<HttpResponse, _>(ApiError::saying(Code::NotFound, "There is no such path"))
    }));
}

/// A path and its methods: GET brings HEAD along, and every other method is answered with
/// 405 and `Allow`.
struct Endpoint {
    resource: Resource,
    allow: Vec<Method>,
}

fn at(path: &str) -> Endpoint {
    Endpoint { resource: web::resource(path), allow: Vec::new() }
}

impl Endpoint {
    fn on<F, Args>(mut self, methods: &[Method], handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.allow.extend_from_slice(methods);
        let route = web::route().guard(one_of(methods)).to(handler);
        Self { resource: self.resource.route(route), ..self }
    }

    fn get<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(&[Method::GET, Method::HEAD], handler)
    }

    fn add_to(self, config: &mut ServiceConfig) {
        let names: Vec<_> = self.allow.iter().map(Method::as_str).collect();
        let allow = HeaderValue::from_str(&names.join(", "));
        let allow = allow.unwrap_or(HeaderValue::from_static(""));
        config.service(self.resource.default_service(web::to(move || {
            let refused = ApiError::method_not_allowed(allow.clone());
            async { Err::<HttpResponse, _>(refused) }
        })));
    }
}

fn one_of(methods: &[Method]) -> impl Guard + use<> {
    let methods = methods.to_vec();
    guard::fn_guard(move |context| methods.contains(&context.head().method))
}
