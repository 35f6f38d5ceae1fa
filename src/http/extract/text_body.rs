//! A short text in a body, of any media type.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};

use super::{json, settings};
use crate::http::problem::ApiError;

/// The body as text, within the limit of JSON bodies.
pub struct TextBody(pub String);

impl FromRequest for TextBody {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let limit = settings(&request)?.json_limit;
            let bytes = json::read_if(true, limit, &request, payload).await?;
            let text = String::from_utf8(bytes.to_vec());
            text.map(Self).map_err(|_| ApiError::field("body", "Must be UTF-8"))
        })
    }
}
