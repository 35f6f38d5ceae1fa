//! `DELETE /api/tracks/{id}`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::domain::TrackId;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id};
use crate::http::openapi::NotFound;
use crate::http::problem::ApiError;

/// Delete a track
///
/// Ends all uploads of the track. Their objects are deleted later.
#[utoipa::path(delete, path = "/api/tracks/{id}", operation_id = "delete_track", tag = "tracks",
    params(("id" = uuid::Uuid, Path, description = "The track")),
    responses((status = 204, description = "The track is deleted"), NotFound))]
pub async fn handle(
    caller: Caller,
    Id(id): Id<TrackId>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.app.delete_track(&caller.owner, id).await?;
    Ok(HttpResponse::NoContent().finish())
}
