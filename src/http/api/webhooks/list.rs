//! `GET /api/admin/webhooks/deliveries`

use actix_web::web::Data;
use utoipa::IntoParams;

use super::DeliveryView;
use crate::db::webhooks::DELIVERY_ORDER;
use crate::domain::webhook::DeliveryStatus;
use crate::http::HttpState;
use crate::http::extract::{Caller, Json, Query, text};
use crate::http::openapi::{BadQuery, PagingParams};
use crate::http::problem::ApiError;
use crate::http::views::{DeliveryStatusName, PageView};

/// The filter.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameter")]
struct Filter {
    /// Deliveries with this status.
    #[param(inline)]
    status: Option<DeliveryStatusName>,
}

/// List webhook deliveries, newest first
#[utoipa::path(get, path = "/api/admin/webhooks/deliveries", operation_id = "list_deliveries",
    tag = "admin", params(Filter, PagingParams),
    responses((status = 200, description = "A page of deliveries",
        body = PageView<DeliveryView>), BadQuery))]
pub async fn handle(
    _caller: Caller,
    mut query: Query,
    state: Data<HttpState>,
) -> Result<Json<PageView<DeliveryView>>, ApiError> {
    let paging = query.paging(DELIVERY_ORDER, |value| text::timestamp(value).is_ok());
    let names = DeliveryStatus::ALL.into_iter().map(DeliveryStatus::name);
    let status = query.value("status", text::one_of(names));
    let cursor_key = query.cursor_key();
    query.finish()?;
    let page = state.app.list_deliveries(status, paging.cursor.as_ref(), paging.limit).await?;
    Ok(Json(PageView::of(page, DeliveryView::from, &cursor_key)))
}
