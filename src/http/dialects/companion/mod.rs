//! Uppy: the S3 routes of Companion (`@uppy/aws-s3` 5, and 6 with `companionEndpoint`), and
//! `/companion/sign` for the client's function `signRequest`.
//!
//! | request | use |
//! | --- | --- |
//! | `GET /companion/s3/params` | signs a form, or a PUT if the store does not accept forms |
//! | `/companion/s3/multipart` | uploads parts whose size the client chooses |
//! | `POST /companion/sign` | signs one request to the store |
//!
//! The completion of a multipart upload verifies the file. If the client sends the file in one
//! request, it does not confirm the upload. A bucket event, a check when the URL has expired
//! (`app::ended_urls`), the reconciler, or a back end that confirms the upload verifies the file.

use actix_cors::Cors;
use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::web::{Data, ServiceConfig};

use super::{Dialect, cors, error_with_message};
use crate::domain::Scope;
use crate::http::family::ApiFamily;
use crate::http::middleware::access::Access::NeedsOrToken;
use crate::http::middleware::request_id::RequestId;
use crate::http::problem::ApiError;
use crate::http::routes::{Routes, at};

mod multipart;
mod params;
mod sign;

/// The routes of Companion.
pub struct Companion(pub Dialect);

impl ApiFamily for Companion {
    fn prefix(&self) -> &'static str {
        "/companion"
    }

    fn register(&self, config: &mut ServiceConfig) {
        config.app_data(Data::new(self.0.clone()));
        routes().mount(config);
    }

    fn cors(&self, origins: &[String]) -> Cors {
        cors(origins, &["uppy-auth-token", "uppy-credentials-params", "uppy-versions"], &[])
    }

    fn render(&self, error: &ApiError, _: &RequestId) -> HttpResponse {
        error_with_message(error)
    }
}

fn routes() -> Routes {
    let (read, write) = (NeedsOrToken(Scope::UploadsRead), NeedsOrToken(Scope::UploadsWrite));
    let mut routes = Routes::default();
    at("/s3/params").on(&[Method::GET], write, params::handle).add_to(&mut routes);
    at("/s3/multipart").on(&[Method::POST], write, multipart::create).add_to(&mut routes);
    at("/s3/multipart/{id}")
        .get(read, multipart::list)
        .on(&[Method::DELETE], write, multipart::abort)
        .add_to(&mut routes);
    at("/s3/multipart/{id}/complete")
        .on(&[Method::POST], write, multipart::complete)
        .add_to(&mut routes);
    at("/s3/multipart/{id}/batch")
        .on(&[Method::GET], write, multipart::sign_many)
        .add_to(&mut routes);
    at("/s3/multipart/{id}/{number}")
        .on(&[Method::GET], write, multipart::sign_one)
        .add_to(&mut routes);
    at("/sign").on(&[Method::POST], write, sign::handle).add_to(&mut routes);
    routes
}
