//! `GET /api/tracks/{id}`

use actix_web::web::Data;

use crate::domain::TrackId;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id, Json};
use crate::http::openapi::NotFound;
use crate::http::problem::ApiError;
use crate::http::views::TrackView;

/// Get a track
#[utoipa::path(get, path = "/api/tracks/{id}", operation_id = "get_track", tag = "tracks",
    params(("id" = uuid::Uuid, Path, description = "The track")),
    responses((status = 200, description = "The track", body = TrackView), NotFound))]
pub async fn handle(
    caller: Caller,
    Id(id): Id<TrackId>,
    state: Data<HttpState>,
) -> Result<Json<TrackView>, ApiError> {
    let track = state.app.track(&caller.owner, id).await?;
    Ok(Json(TrackView::of(track, &state.app)))
}
