//! `POST /api/events/s3`

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::Value;

use crate::auth::sns::SnsError;
use crate::domain::event::{self, NotAnEvent};
use crate::http::HttpState;
use crate::http::extract::{EventMessage, EventSender};
use crate::http::openapi::{BadBody, Refused};
use crate::http::problem::{ApiError, Code};

/// Receive bucket events
///
/// Accepts S3 event JSON as MinIO's webhook sends it, also inside the envelopes of SNS and
/// `EventBridge`. The service checks the object of each event before it responds. It ignores
/// events about unknown objects and returns 204 for them too. After a 503, send the message again.
/// Requests that SNS itself sends (with the header `x-amz-sns-message-type`) may have the media
/// type `text/plain`. Their signature is verified, and a subscription is confirmed if
/// `events.sns.topics` names its topic.
#[utoipa::path(post, path = "/api/events/s3", operation_id = "take_events", tag = "events",
    request_body(content = Object, content_type = "application/json"),
    responses((status = 204, description = "The events are processed"), BadBody, Refused))]
pub async fn handle(
    sender: EventSender,
    message: EventMessage,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    // Limits the requests to the store, and to SNS, during a burst of events.
    let _permit = sender.permit().await?;
    let message = match message {
        EventMessage::Json(message) => message,
        EventMessage::Sns(message) => match sender.sns()?.receive(*message).await? {
            Some(text) => serde_json::from_str(&text).unwrap_or(Value::Null),
            None => return Ok(HttpResponse::NoContent().finish()),
        },
    };
    state.app.process_events(event::parse(&message)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

impl From<NotAnEvent> for ApiError {
    fn from(error: NotAnEvent) -> Self {
        Self::saying(Code::BadRequest, error.to_string())
    }
}

impl From<SnsError> for ApiError {
    fn from(error: SnsError) -> Self {
        match error {
            SnsError::Untrusted(reason) => Self::saying(Code::Signature, reason),
            SnsError::Unavailable(_) => Self::new(Code::Unavailable).because(error),
        }
    }
}
