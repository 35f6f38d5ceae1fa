//! `GET /api/admin/reconciliations/{id}/findings`

use actix_web::web::Data;
use utoipa::IntoParams;

use crate::db::reconcile::findings::{FINDING_ORDER, is_position};
use crate::domain::RunId;
use crate::domain::run::{FindingKind, Mode};
use crate::http::HttpState;
use crate::http::extract::{Caller, Id, Json, Query, text};
use crate::http::openapi::{BadQuery, NotFound, PagingParams};
use crate::http::problem::ApiError;
use crate::http::views::{FindingKindName, FindingView, PageView};

/// The filter.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameter")]
struct Filter {
    /// Findings of this kind.
    #[param(inline)]
    kind: Option<FindingKindName>,
}

/// List the findings of a run
///
/// There is one finding for each object and kind. A later run that sees the same problem again
/// updates the finding. The list contains the findings that this run recorded first, and those that
/// no later run has seen again. If this run is an audit, the list also contains the findings that
/// existed when it ended and that a later run saw again. `found_at` and `detail` are from the
/// newest run that saw the finding.
#[utoipa::path(get, path = "/api/admin/reconciliations/{id}/findings",
    operation_id = "list_findings", tag = "admin",
    params(("id" = uuid::Uuid, Path, description = "The run"), Filter, PagingParams),
    responses((status = 200, description = "A page of findings", body = PageView<FindingView>),
        BadQuery, NotFound))]
pub async fn handle(
    _caller: Caller,
    Id(id): Id<RunId>,
    mut query: Query,
    state: Data<HttpState>,
) -> Result<Json<PageView<FindingView>>, ApiError> {
    let names = FindingKind::ALL.iter().copied().map(FindingKind::name);
    let kind = query.value("kind", text::one_of(names));
    let paging = query.paging(FINDING_ORDER, is_position);
    let cursor_key = query.cursor_key();
    query.finish()?;
    state.app.run_of(id, &Mode::RECONCILIATIONS).await?;
    let page = state.app.list_findings(id, kind, paging.cursor.as_ref(), paging.limit).await?;
    Ok(Json(PageView::of(page, FindingView::from, &cursor_key)))
}
