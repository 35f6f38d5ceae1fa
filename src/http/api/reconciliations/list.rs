//! `GET /api/admin/reconciliations`

use actix_web::web::Data;

use crate::db::reconcile::runs::RUN_ORDER;
use crate::domain::run::Mode;
use crate::http::HttpState;
use crate::http::extract::{Caller, Json, Query, text};
use crate::http::openapi::{BadQuery, PagingParams};
use crate::http::problem::ApiError;
use crate::http::views::{PageView, RunView};

/// List runs, newest first
#[utoipa::path(get, path = "/api/admin/reconciliations", operation_id = "list_runs",
    tag = "admin", params(PagingParams),
    responses((status = 200, description = "A page of runs", body = PageView<RunView>),
        BadQuery))]
pub async fn handle(
    _caller: Caller,
    mut query: Query,
    state: Data<HttpState>,
) -> Result<Json<PageView<RunView>>, ApiError> {
    let paging = query.paging(RUN_ORDER, |value| text::timestamp(value).is_ok());
    let cursor_key = query.cursor_key();
    query.finish()?;
    let page =
        state.app.list_runs(&Mode::RECONCILIATIONS, paging.cursor.as_ref(), paging.limit).await?;
    Ok(Json(PageView::of(page, RunView::from, &cursor_key)))
}
