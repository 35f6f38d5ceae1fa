//! `POST /api/events/s3`

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::Value;

use crate::domain::event;
use crate::http::HttpState;
use crate::http::extract::{EventSender, Json};
use crate::http::openapi::{BadBody, Refused};
use crate::http::problem::{ApiError, Code};

/// Take events of a bucket
///
/// S3-shaped JSON as MinIO's webhook sends it, also inside the envelopes of SNS and
/// `EventBridge`. Each event is a hint: the object is looked at before the answer. Events
/// of objects that are not ours are answered with 204 too. 503 asks to send it again.
#[utoipa::path(post, path = "/api/events/s3", operation_id = "take_events", tag = "events",
    request_body(content = Object, content_type = "application/json"),
    responses((status = 204, description = "Taken"), BadBody, Refused))]
pub async fn handle(
    sender: EventSender,
    Json(message): Json<Value>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let events = event::parse(&message)
        .map_err(|error| ApiError::saying(Code::BadRequest, error.to_string()))?;
    // Bounds what a burst of events has under way at the store.
    let _permit = sender.permit().await?;
    state.app.process_events(events).await?;
    Ok(HttpResponse::NoContent().finish())
}
