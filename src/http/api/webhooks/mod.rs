//! Outgoing webhooks, for administrators.

use actix_web::http::Method;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Routes, at};
use crate::domain::Scope;
use crate::domain::webhook::Delivery;
use crate::http::middleware::access::Access::Needs;
use crate::http::views::DeliveryStatusName;

pub mod list;
pub mod redeliver;

pub(super) fn register(routes: &mut Routes) {
    at("/api/admin/webhooks/deliveries").get(Needs(Scope::Admin), list::handle).add_to(routes);
    at("/api/admin/webhooks/deliveries/{id}/redeliver")
        .on(&[Method::POST], Needs(Scope::Admin), redeliver::handle)
        .add_to(routes);
}

/// The delivery of one event to one endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub struct DeliveryView {
    /// The value of `webhook-id`. It is the same in every attempt.
    pub id: Uuid,
    /// The name of the endpoint.
    pub endpoint: String,
    /// The upload.
    pub upload_id: Uuid,
    /// The type of the event.
    #[schema(example = "upload.uploaded")]
    pub event: String,
    /// The status.
    #[schema(value_type = DeliveryStatusName)]
    pub status: &'static str,
    /// The number of attempts.
    pub attempts: i32,
    /// The time of the next attempt, if the delivery is pending.
    #[schema(required)]
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// The error of the last attempt.
    #[schema(required)]
    pub error: Option<String>,
    /// When the upload changed.
    pub created_at: DateTime<Utc>,
    /// When the receiver accepted the delivery.
    #[schema(required)]
    pub delivered_at: Option<DateTime<Utc>>,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        use crate::domain::webhook::DeliveryStatus;
        let Delivery {
            id,
            endpoint,
            upload,
            event,
            payload: _,
            status,
            attempts,
            next_attempt_at,
            give_up_at: _,
            error,
            created_at,
            delivered_at,
        } = delivery;
        let pending = status == DeliveryStatus::Pending;
        Self {
            id,
            endpoint,
            upload_id: upload.0,
            event,
            status: status.name(),
            attempts,
            next_attempt_at: pending.then_some(next_attempt_at),
            error,
            created_at,
            delivered_at,
        }
    }
}
