//! API families: groups of routes that share a wire format.
//!
//! The native API ([`NativeApi`](super::api::NativeApi)) is one. Another protocol over the same
//! use cases is a folder `dialects/<name>/` with a type that implements [`ApiFamily`], and a line
//! in `dialects` of [`super`]. Its handlers call the same use cases and return
//! [`ApiError`]; only the family decides what an error looks like and which CORS headers its
//! clients need.

use actix_cors::Cors;
use actix_web::HttpResponse;
use actix_web::web::ServiceConfig;

use super::middleware::request_id::RequestId;
use super::problem::ApiError;

/// Routes with their own wire format.
pub trait ApiFamily: Send + Sync + 'static {
    /// The path below which the routes are, such as `/tus`. Empty for the native API, which is
    /// mounted last.
    fn prefix(&self) -> &'static str;

    /// Adds the routes. Paths are relative to [`Self::prefix`].
    fn register(&self, config: &mut ServiceConfig);

    /// The CORS rules for pages of these origins. `*` is all origins.
    fn cors(&self, origins: &[String]) -> Cors;

    /// The response to a failed request. It must not contain what only the log may contain
    /// (`source()` of the error).
    fn render(&self, error: &ApiError, request: &RequestId) -> HttpResponse;
}
