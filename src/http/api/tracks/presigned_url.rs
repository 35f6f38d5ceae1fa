//! `POST /api/tracks/{id}/presigned-url`

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::web::Data;

use crate::app::create_upload::NewUpload;
use crate::domain::{Subject, TrackId};
use crate::http::HttpState;
use crate::http::api::uploads::body::PresignOptions;
use crate::http::extract::{Caller, Id, IdempotencyParams, Idempotent, OptionalJson};
use crate::http::openapi::{BadBody, IdempotencyErrors, NotFound};
use crate::http::problem::{ApiError, Code};
use crate::http::views::PresignedUrlView;

/// Presign a PUT of a track's file
///
/// Creates an upload and returns a signed PUT request. If the request has no body, only the host is
/// signed, so that `curl -T FILE URL` works. The rules are then checked after the file has arrived.
/// Values that the body declares are signed too: send exactly the `headers` of the response.
#[utoipa::path(post, path = "/api/tracks/{id}/presigned-url", operation_id = "presign_track",
    tag = "tracks",
    params(("id" = uuid::Uuid, Path, description = "The track"), IdempotencyParams),
    request_body = Option<PresignOptions>,
    responses((status = 201, description = "Signed", body = PresignedUrlView,
        headers(("Location" = String, description = "The path of the upload"),
            ("Cache-Control" = String, description = "no-store"))),
            BadBody, NotFound, IdempotencyErrors))]
pub async fn handle(
    caller: Caller,
    Id(id): Id<TrackId>,
    Idempotent { key, body: OptionalJson(options) }: Idempotent<OptionalJson<PresignOptions>>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let new = NewUpload { attach_to: Some(Subject::of_track(id)), ..options.try_into()? };
    let created = state.app.create_upload_once(&caller.owner, key.as_ref(), new).await?;
    // A request with the `Idempotency-Key` of an earlier request gets no URL if the upload of that
    // request accepts no file any more.
    let status = created.upload.status().name();
    let ended = || {
        ApiError::saying(
            Code::State,
            format!(
                "The upload of this Idempotency-Key is {status}; use another key for a new upload"
            ),
        )
    };
    let signed = created.request.ok_or_else(ended)?;
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("/api/uploads/{}", created.upload.id)))
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(PresignedUrlView::new(signed, created.upload, &state.app)))
}
