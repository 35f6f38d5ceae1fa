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

pub mod list;
pub mod redeliver;

pub(super) fn register(routes: &mut Routes) {
    at("/api/admin/webhooks/deliveries").get(Needs(Scope::Admin), list::handle).add_to(routes);
    at("/api/admin/webhooks/deliveries/{id}/redeliver")
        .on(&[Method::POST], Needs(Scope::Admin), redeliver::handle)
        .add_to(routes);
}

/// One piece of news for one endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub struct DeliveryView {
    /// Sent as `webhook-id`, the same at every attempt.
    pub id: Uuid,
    /// The endpoint's name.
    pub endpoint: String,
    /// Of which upload.
    pub upload_id: Uuid,
    /// What happened.
    #[schema(example = "upload.uploaded")]
    pub event: String,
    /// `pending`, `delivered` or `dead`.
    #[schema(example = "delivered")]
    pub status: &'static str,
    /// How often it was sent.
    pub attempts: i32,
    /// When it is sent next, while it is pending.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// What went wrong last.
    pub error: Option<String>,
    /// When the upload changed.
    pub created_at: DateTime<Utc>,
    /// When the receiver took it.
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
