//! `PATCH /api/tracks/{id}`

use actix_web::web::Data;

use super::body::{TrackChanges, TrackPatch};
use crate::domain::TrackId;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id, Json};
use crate::http::openapi::{BadBody, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::TrackView;

/// Update some fields of a track
///
/// Absent fields do not change. Null clears the release date.
#[utoipa::path(patch, path = "/api/tracks/{id}", operation_id = "update_track", tag = "tracks",
    params(("id" = uuid::Uuid, Path, description = "The track")),
    request_body = TrackPatch,
    responses((status = 200, description = "The track", body = TrackView), BadBody, NotFound))]
pub async fn handle(
    caller: Caller,
    Id(id): Id<TrackId>,
    Json(body): Json<TrackPatch>,
    state: Data<HttpState>,
) -> Result<Json<TrackView>, ApiError> {
    let changes: TrackChanges = body.try_into()?;
    let track = state.app.update_track(&caller.owner, id, |fields| changes.apply(fields)).await?;
    Ok(Json(TrackView::of(track, &state.app)))
}
