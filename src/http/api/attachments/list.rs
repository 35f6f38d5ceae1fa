//! `GET /api/attachments`

use actix_web::web::Data;
use utoipa::IntoParams;

use crate::db::attachments::{ATTACHMENT_ORDER, AttachmentFilter};
use crate::domain::Subject;
use crate::http::HttpState;
use crate::http::extract::{Caller, Json, Query};
use crate::http::openapi::{BadQuery, PagingParams};
use crate::http::problem::ApiError;
use crate::http::views::{AttachmentView, PageView};

/// The filters.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameters")]
struct Filters {
    /// Attachments whose subject begins with this text.
    #[param(example = "album:42:", pattern = "^[A-Za-z0-9._~:@-]*$")]
    prefix: Option<String>,
}

/// List attachments, in the order of their subjects
#[utoipa::path(get, path = "/api/attachments", operation_id = "list_attachments",
    tag = "attachments",
    params(Filters, PagingParams),
    responses((status = 200, description = "A page of attachments",
        body = PageView<AttachmentView>), BadQuery))]
pub async fn handle(
    caller: Caller,
    query: Query,
    state: Data<HttpState>,
) -> Result<Json<PageView<AttachmentView>>, ApiError> {
    let key = query.cursor_key();
    let page = state.app.list_attachments(&caller.owner, &filter(query)?).await?;
    Ok(Json(PageView::of(page, |of| AttachmentView::of(of, &state.app), &key)))
}

fn filter(mut query: Query) -> Result<AttachmentFilter, ApiError> {
    let paging = query.paging(ATTACHMENT_ORDER, |value| value.parse::<Subject>().is_ok());
    let prefix = query.value("prefix", |text| {
        if text.bytes().all(Subject::allows) {
            Ok(text.to_owned())
        } else {
            Err("May contain only A-Z a-z 0-9 . _ ~ : @ -".to_owned())
        }
    });
    let filter = AttachmentFilter {
        prefix: prefix.unwrap_or_default(),
        cursor: paging.cursor,
        limit: paging.limit,
    };
    query.finish()?;
    Ok(filter)
}
