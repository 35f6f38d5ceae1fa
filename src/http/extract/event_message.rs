//! The body of a message with bucket events.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use serde_json::Value;

use super::event_auth::SNS_MESSAGE_TYPE;
use super::json::{self, FromBody as _, Json};
use super::{essence, settings};
use crate::domain::sns::SnsMessage;
use crate::http::problem::ApiError;

/// SNS sends this header if the subscription uses raw message delivery: the message has no
/// envelope, and so no signature.
const SNS_RAW_DELIVERY: &str = "x-amz-sns-rawdelivery";

/// A message with bucket events.
pub enum EventMessage {
    /// The event JSON of S3, possibly inside an envelope.
    Json(Value),
    /// A signed message of SNS.
    Sns(Box<SnsMessage>),
}

impl FromRequest for EventMessage {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move { read(&request, payload).await })
    }
}

async fn read(request: &HttpRequest, payload: Payload) -> Result<EventMessage, ApiError> {
    let by_sns = request.headers().contains_key(SNS_MESSAGE_TYPE);
    // SNS sends JSON as text/plain.
    let is_text = by_sns && essence(request).as_deref() == Some("text/plain");
    let is_json = is_text || json::has_json_type(request);
    let limit = settings(request)?.json_limit;
    let bytes = json::read_if(is_json, limit, request, payload).await?;
    if by_sns && !request.headers().contains_key(SNS_RAW_DELIVERY) {
        return Json::from_body(&bytes).map(|Json(message)| EventMessage::Sns(Box::new(message)));
    }
    Json::from_body(&bytes).map(|Json(message)| EventMessage::Json(message))
}
