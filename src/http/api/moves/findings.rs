//! `GET /api/admin/moves/{id}/findings`

use actix_web::web::Data;

use crate::db::reconcile::findings::{FINDING_ORDER, is_position};
use crate::domain::RunId;
use crate::domain::run::Mode;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id, Json, Query};
use crate::http::openapi::{BadQuery, NotFound, PagingParams};
use crate::http::problem::ApiError;
use crate::http::views::{FindingView, PageView};

/// List the objects that a move did not move
///
/// The list contains the findings that this move recorded first, or that no later move has seen
/// again. `detail` says why the object was not moved: `absent`, `changed`, or the error.
#[utoipa::path(get, path = "/api/admin/moves/{id}/findings", operation_id = "list_move_findings",
    tag = "admin",
    params(("id" = uuid::Uuid, Path, description = "The move"), PagingParams),
    responses((status = 200, description = "A page of findings", body = PageView<FindingView>),
        BadQuery, NotFound))]
pub async fn handle(
    _caller: Caller,
    Id(id): Id<RunId>,
    mut query: Query,
    state: Data<HttpState>,
) -> Result<Json<PageView<FindingView>>, ApiError> {
    let paging = query.paging(FINDING_ORDER, is_position);
    let cursor_key = query.cursor_key();
    query.finish()?;
    state.app.run_of(id, &[Mode::Move]).await?;
    let page = state.app.list_findings(id, None, paging.cursor.as_ref(), paging.limit).await?;
    Ok(Json(PageView::of(page, FindingView::from, &cursor_key)))
}
