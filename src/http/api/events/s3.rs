//! `POST /api/events/s3`

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::Value;

use crate::domain::event;
use crate::http::HttpState;
use crate::http::extract::{EventSender, Json};
use crate::http::openapi::{BadBody, Refused};
use crate::http::problem::{ApiError, Code};

/// Receive bucket events
///
/// S3 event JSON as MinIO's webhook sends it, also inside the envelopes of SNS and `EventBridge`.
/// The service checks the object of each event before it responds. Events of unknown objects are
/// 204 too. After a 503, send the message again.
#[utoipa::path(post, path = "/api/events/s3", operation_id = "take_events", tag = "events",
    request_body(content = Object, content_type = "application/json"),
    responses((status = 204, description = "The events are processed"), BadBody, Refused))]
pub async fn handle(
    sender: EventSender,
    Json(message): Json<Value>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let events = event::parse(&message)
        .map_err(|error| ApiError::saying(Code::BadRequest, error.to_string()))?;
    // Limits the requests to the store during a burst of events.
    let _permit = sender.permit().await?;
    state.app.process_events(events).await?;
    Ok(HttpResponse::NoContent().finish())
}
