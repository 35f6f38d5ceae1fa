//! `GET /api/tracks/{id}/file`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::domain::TrackId;
use crate::http::HttpState;
use crate::http::extract::{Caller, Download, Id};
use crate::http::openapi::{BadQuery, FilePending, NotAcceptable, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::FileUrlView;

/// Download a track's file
///
/// Redirects to a signed URL of the store. Only verified files are served.
#[utoipa::path(get, path = "/api/tracks/{id}/file", operation_id = "get_track_file",
    tag = "tracks",
    params(("id" = uuid::Uuid, Path, description = "The track"),
        ("redirect" = Option<bool>, Query, description = "`false` returns the URL instead")),
    responses(
        (status = 200, description = "The URL, with `redirect=false`", body = FileUrlView,
            headers(("Cache-Control" = String, description = "no-store"))),
        (status = 307, description = "The URL in `Location`",
            headers(("Location" = String, description = "The signed URL"),
                ("Cache-Control" = String, description = "no-store"))),
        BadQuery, NotFound, NotAcceptable, FilePending))]
pub async fn handle(
    caller: Caller,
    Id(id): Id<TrackId>,
    download: Download,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    Ok(download.response(state.app.track_file(&caller.owner, id).await?))
}
