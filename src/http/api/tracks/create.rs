//! `POST /api/tracks`

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use actix_web::web::Data;

use super::body::NewTrack;
use crate::http::HttpState;
use crate::http::extract::{Caller, IdempotencyParams, Idempotent, Json};
use crate::http::openapi::{BadBody, IdempotencyErrors};
use crate::http::problem::ApiError;
use crate::http::views::TrackView;

/// Create a track
#[utoipa::path(post, path = "/api/tracks", operation_id = "create_track", tag = "tracks",
    params(IdempotencyParams),
    request_body = NewTrack,
    responses((status = 201, description = "Created", body = TrackView,
        headers(("Location" = String, description = "The path of the track"))),
        BadBody, IdempotencyErrors))]
pub async fn handle(
    caller: Caller,
    Idempotent { key, body: Json(body) }: Idempotent<Json<NewTrack>>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let track = state.app.create_track_once(&caller.owner, key.as_ref(), body.try_into()?).await?;
    let path = format!("/api/tracks/{}", track.0.id);
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, path))
        .json(TrackView::of(track, &state.app)))
}
