//! `POST /api/uploads/batch/confirm`

use std::collections::BTreeSet;

use actix_web::http::StatusCode;
use actix_web::web::Data;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::batch::check_len;
use crate::http::extract::text;
use crate::http::extract::{ItemLimit, Json, UploadCaller};
use crate::http::middleware::request_id::RequestId;
use crate::http::openapi::BadBody;
use crate::http::problem::{ApiError, Code};
use crate::http::views::{BatchResultsView, UploadView};

/// The uploads to confirm.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"ids": ["0190a6f2-7b3c-7def-8123-456789abcdef"]}))]
pub struct UploadIds {
    /// The ids of 1 to 100 different uploads.
    #[schema(min_items = 1, max_items = 100, value_type = Vec<uuid::Uuid>)]
    ids: Vec<String>,
}

/// Confirm many uploads
///
/// Verifies the objects of 1 to 100 uploads now, several at the same time. Each upload has its own
/// result, as `POST /api/uploads/{id}/confirm` would return it, and counts in the rate limit like a
/// separate request.
#[utoipa::path(post, path = "/api/uploads/batch/confirm", operation_id = "confirm_uploads",
    tag = "uploads",
    request_body = UploadIds,
    responses((status = 200, description = "The results, in the order of the ids: `status` 200 \
            with the `upload`, or an error with the `problem`, for example 409 `not-arrived`",
        body = BatchResultsView), BadBody))]
pub async fn handle(
    caller: UploadCaller,
    Json(UploadIds { ids }): Json<UploadIds>,
    limit: ItemLimit,
    request: RequestId,
    state: Data<HttpState>,
) -> Result<Json<BatchResultsView>, ApiError> {
    check_len("ids", ids.len())?;
    let ids: Vec<Option<UploadId>> = ids.iter().map(|id| text::id(id).ok()).collect();
    let known: Vec<UploadId> = ids.iter().copied().flatten().collect();
    let mut seen = BTreeSet::new();
    if let Some(twice) = known.iter().find(|id| !seen.insert(**id)) {
        return Err(ApiError::field("ids", format!("{twice} occurs more than once")));
    }
    limit.count(caller.principal().owner(), ids.len())?;
    let confirmed = state.app.confirm_uploads(&caller, &known).await?;
    let mut confirmed = confirmed.into_iter();
    let results = ids.iter().filter_map(|id| match id {
        Some(_) => confirmed.next().map(|one| Ok(UploadView::of(one?, &state.app))),
        None => Some(Err(ApiError::saying(Code::NotFound, "The id must be a UUID"))),
    });
    Ok(Json(BatchResultsView::of(results, StatusCode::OK, &request)))
}
