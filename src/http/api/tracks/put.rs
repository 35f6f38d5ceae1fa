//! `PUT /api/tracks/{id}`

use actix_web::web::Data;

use super::body::NewTrack;
use crate::db::tracks::TrackFields;
use crate::domain::TrackId;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id, Json};
use crate::http::openapi::{BadBody, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::TrackView;

/// Replace the fields of a track
///
/// The uploads of the track do not change.
#[utoipa::path(put, path = "/api/tracks/{id}", operation_id = "replace_track", tag = "tracks",
    params(("id" = uuid::Uuid, Path, description = "The track")),
    request_body = NewTrack,
    responses((status = 200, description = "The track", body = TrackView), BadBody, NotFound))]
pub async fn handle(
    caller: Caller,
    Id(id): Id<TrackId>,
    Json(body): Json<NewTrack>,
    state: Data<HttpState>,
) -> Result<Json<TrackView>, ApiError> {
    let fields: TrackFields = body.try_into()?;
    let track = state.app.update_track(&caller.owner, id, |_| fields.clone()).await?;
    Ok(Json(TrackView::of(track, &state.app)))
}
