//! `POST /api/uploads/batch`

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;
use serde::Deserialize;
use utoipa::ToSchema;

use super::body::UploadBody;
use crate::app::upload_batches::BatchItem;
use crate::http::HttpState;
use crate::http::extract::{Batch, Idempotent, ItemLimit, Links, UploadCaller};
use crate::http::middleware::request_id::RequestId;
use crate::http::openapi::{BadBody, IdempotencyErrors};
use crate::http::problem::ApiError;
use crate::http::views::{BatchResultsView, UploadView};

/// New uploads.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewUploads, example = json!({"uploads": [
    {"filename": "one.mp3", "content_type": "audio/mpeg", "size": 4_194_304},
    {"filename": "two.mp3", "content_type": "audio/mpeg", "size": 5_242_880}]}))]
#[expect(dead_code, reason = "documents the body")]
pub struct BatchBody {
    /// 1 to 100 uploads.
    #[schema(min_items = 1, max_items = 100)]
    uploads: Vec<UploadBody>,
}

/// Create many uploads
///
/// Creates 1 to 100 uploads in one commit. Each upload has its own result: an upload that is
/// refused does not affect the others. Each counts in the rate limit and in the quotas like a
/// separate request. The largest body is 1 MiB, or `limits.json_body` if that is larger. A
/// multipart upload is opened in the store when its first parts are signed.
#[utoipa::path(post, path = "/api/uploads/batch", operation_id = "create_uploads", tag = "uploads",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII \
            characters, for all uploads together. Repeating a request with the same key returns \
            the same results, for 24 hours")),
    request_body = BatchBody,
    responses((status = 200, description = "The results, in the order of the uploads: `status` \
            201 with the `upload`, or 4xx with the `problem`", body = BatchResultsView,
        headers(("Cache-Control" = String, description = "no-store"))),
        BadBody, IdempotencyErrors))]
pub async fn handle(
    caller: UploadCaller,
    Idempotent { key, body: Batch(items) }: Idempotent<Batch<UploadBody>>,
    limit: ItemLimit,
    links: Links,
    request: RequestId,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    limit.count(caller.principal().owner(), items.len())?;
    let (mut results, mut new) = (Vec::with_capacity(items.len()), Vec::new());
    for (position, item) in (0..).zip(items) {
        match item.and_then(|body| Ok(body.try_into()?)) {
            Ok(upload) => {
                new.push(BatchItem { position, new: upload });
                results.push(None);
            }
            Err(error) => results.push(Some(Err(error))),
        }
    }
    let created = state.app.create_uploads_once(&caller, key.as_ref(), &new).await?;
    let mut created = created.into_iter().map(|one| one.map_err(ApiError::from));
    let results = results.into_iter().filter_map(|refused| refused.or_else(|| created.next()));
    let results =
        results.map(|one| one.map(|created| UploadView::created(created, &links, &state.app)));
    let results = BatchResultsView::of(results, StatusCode::CREATED, &request);
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(results))
}
