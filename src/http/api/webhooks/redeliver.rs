//! `POST /api/admin/webhooks/deliveries/{id}/redeliver`

use actix_web::HttpResponse;
use actix_web::web::Data;
use uuid::Uuid;

use super::DeliveryView;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id};
use crate::http::openapi::NotFound;
use crate::http::problem::ApiError;

/// Send a delivery again
///
/// Works for a delivery with any status. If attempts fail, they are repeated for one day.
#[utoipa::path(post, path = "/api/admin/webhooks/deliveries/{id}/redeliver",
    operation_id = "redeliver", tag = "admin",
    params(("id" = uuid::Uuid, Path, description = "The delivery")),
    responses((status = 202, description = "The delivery, pending", body = DeliveryView), NotFound))]
pub async fn handle(
    _caller: Caller,
    Id(id): Id<Uuid>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let delivery = state.app.redeliver(id).await?;
    Ok(HttpResponse::Accepted().json(DeliveryView::from(delivery)))
}
