//! `POST /api/tracks`

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use actix_web::web::Data;

use super::body::NewTrack;
use crate::http::HttpState;
use crate::http::extract::{Caller, Json};
use crate::http::openapi::BadBody;
use crate::http::problem::ApiError;
use crate::http::views::TrackView;

/// Create a track
#[utoipa::path(post, path = "/api/tracks", operation_id = "create_track", tag = "tracks",
    request_body = NewTrack,
    responses((status = 201, description = "Created", body = TrackView,
        headers(("Location" = String, description = "Its path"))), BadBody))]
pub async fn handle(
    caller: Caller,
    Json(body): Json<NewTrack>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let track = state.app.create_track(&caller.owner, body.try_into()?).await?;
    let path = format!("/api/tracks/{}", track.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, path)).json(TrackView::from((track, None))))
}
