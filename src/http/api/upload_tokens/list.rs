//! `GET /api/upload-tokens`

use actix_web::web::Data;

use crate::db::upload_tokens::{UPLOAD_TOKEN_ORDER, UploadTokenFilter};
use crate::http::HttpState;
use crate::http::extract::{Caller, Json, Query, text};
use crate::http::openapi::{BadQuery, PagingParams};
use crate::http::problem::ApiError;
use crate::http::views::{PageView, UploadTokenView};

/// List upload tokens, newest first
///
/// The secrets are not returned. Expired and revoked tokens are listed until 30 days after the
/// deadlines of their uploads.
#[utoipa::path(get, path = "/api/upload-tokens", operation_id = "list_upload_tokens",
    tag = "upload tokens", params(PagingParams),
    responses((status = 200, description = "A page of tokens", body = PageView<UploadTokenView>),
        BadQuery))]
pub async fn handle(
    caller: Caller,
    mut query: Query,
    state: Data<HttpState>,
) -> Result<Json<PageView<UploadTokenView>>, ApiError> {
    let key = query.cursor_key();
    let paging = query.paging(UPLOAD_TOKEN_ORDER, |value| text::timestamp(value).is_ok());
    query.finish()?;
    let filter = UploadTokenFilter { cursor: paging.cursor, limit: paging.limit };
    let page = state.app.list_upload_tokens(&caller.owner, &filter).await?;
    Ok(Json(PageView::of(page, UploadTokenView::from, &key)))
}
