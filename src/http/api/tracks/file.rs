//! `GET /api/tracks/{id}/file`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::domain::TrackId;
use crate::http::HttpState;
use crate::http::extract::{Caller, Download, DownloadParams, DownloadResponses, Id};
use crate::http::openapi::{BadQuery, FilePending, NotAcceptable, NotFound};
use crate::http::problem::ApiError;

/// Download a track's file
///
/// Redirects to a signed URL of the store. Only verified files are served.
#[utoipa::path(get, path = "/api/tracks/{id}/file", operation_id = "get_track_file",
    tag = "tracks",
    params(("id" = uuid::Uuid, Path, description = "The track"), DownloadParams),
    responses(DownloadResponses, BadQuery, NotFound, NotAcceptable, FilePending))]
pub async fn handle(
    caller: Caller,
    Id(id): Id<TrackId>,
    download: Download,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    Ok(download.response(state.app.track_file(&caller.owner, id).await?))
}
