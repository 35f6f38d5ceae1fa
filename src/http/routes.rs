//! Routes: a path, its methods, and the access rule of each method.

use actix_web::guard::{self, Guard};
use actix_web::http::Method;
use actix_web::http::header::HeaderValue;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder};

use super::middleware::accept::Produces;
use super::middleware::access::{Access, authorize};
use super::problem::{ApiError, Code};

/// The routes of an API family.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) endpoints: Vec<Endpoint>,
}

impl Routes {
    /// Adds the routes to a scope. Every other path returns 404.
    pub(super) fn mount(self, config: &mut ServiceConfig) {
        for endpoint in self.endpoints {
            config.service(endpoint.into_resource());
        }
        config.default_service(web::to(async || {
            Err::<HttpResponse, _>(ApiError::saying(Code::NotFound, "There is no such path"))
        }));
    }
}

/// A path and its methods, each with its access rule and media type. GET includes HEAD. Every other
/// method returns 405 with `Allow`.
pub(super) struct Endpoint {
    pub(super) path: &'static str,
    resource: Resource,
    produces: Produces,
    pub(super) rules: Vec<(Method, Access, Produces)>,
}

/// A path without methods.
pub(super) fn at(path: &'static str) -> Endpoint {
    Endpoint { path, resource: web::resource(path), produces: Produces::Json, rules: Vec::new() }
}

impl Endpoint {
    /// The media type of the methods that follow, if it is not JSON.
    pub(super) fn producing(self, produces: Produces) -> Self {
        Self { produces, ..self }
    }

    /// Adds methods with this access rule.
    pub(super) fn on<F, Args>(mut self, methods: &[Method], access: Access, handler: F) -> Self
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

    /// Adds GET and HEAD.
    pub(super) fn get<F, Args>(self, access: Access, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(&[Method::GET, Method::HEAD], access, handler)
    }

    /// Adds the path to the routes.
    pub(super) fn add_to(self, routes: &mut Routes) {
        routes.endpoints.push(self);
    }

    pub(super) fn into_resource(self) -> Resource {
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
