//! `POST /api/admin/moves`

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use actix_web::web::Data;

use super::body::MoveBody;
use crate::http::HttpState;
use crate::http::extract::{Caller, IdempotencyParams, Idempotent, Json, Query};
use crate::http::openapi::{BadBody, OtherKey, RunActive};
use crate::http::problem::ApiError;
use crate::http::views::MoveView;

/// Move a policy's objects to its current location
///
/// Change the policy's `store` or `prefix` in the configuration first. New uploads then use the new
/// location, and existing objects stay at the former location. The move copies each verified object
/// from the former locations in the store `from`, compares the copy with the original, and changes
/// the location of the upload. Uploads and downloads work during the move. Uploads whose object can
/// still change are not moved. They are counted as `open`, and a later move can move them. An
/// object that cannot be moved is a finding. The old objects are deleted after the policy's
/// `move_retention`.
#[utoipa::path(post, path = "/api/admin/moves", operation_id = "start_move", tag = "admin",
    params(IdempotencyParams),
    request_body = MoveBody,
    responses(
        (status = 202, description = "The move as it started", body = MoveView,
            headers(("Location" = String, description = "The path of the move"))),
        BadBody, RunActive, OtherKey))]
pub async fn handle(
    caller: Caller,
    query: Query,
    Idempotent { key, body: Json(body) }: Idempotent<Json<MoveBody>>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let concurrency = state.reconciler.settings.concurrency;
    let request = body.request(&state.app.policies, concurrency)?;
    let run = state.reconciler.start_once(&caller.owner, key.as_ref(), request, false).await?;
    let path = format!("/api/admin/moves/{}", run.id);
    let mut response = HttpResponse::Accepted();
    Ok(response.insert_header((LOCATION, path)).json(MoveView::from(run)))
}
