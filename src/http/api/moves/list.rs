//! `GET /api/admin/moves`

use actix_web::web::Data;

use crate::db::reconcile::runs::RUN_ORDER;
use crate::domain::run::Mode;
use crate::http::HttpState;
use crate::http::extract::{Caller, Json, Query, text};
use crate::http::openapi::{BadQuery, PagingParams};
use crate::http::problem::ApiError;
use crate::http::views::{MoveView, PageView};

/// List moves, newest first
#[utoipa::path(get, path = "/api/admin/moves", operation_id = "list_moves", tag = "admin",
    params(PagingParams),
    responses((status = 200, description = "A page of moves", body = PageView<MoveView>),
        BadQuery))]
pub async fn handle(
    _caller: Caller,
    mut query: Query,
    state: Data<HttpState>,
) -> Result<Json<PageView<MoveView>>, ApiError> {
    let paging = query.paging(RUN_ORDER, |value| text::timestamp(value).is_ok());
    let cursor_key = query.cursor_key();
    query.finish()?;
    let page = state.app.list_runs(&[Mode::Move], paging.cursor.as_ref(), paging.limit).await?;
    Ok(Json(PageView::of(page, MoveView::from, &cursor_key)))
}
