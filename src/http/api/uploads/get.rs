//! `GET /api/uploads/{id}`

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::web::Data;
use utoipa::IntoParams;

use crate::app::changes::MAX_WAIT;
use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Id, Json, Query, UploadCaller};
use crate::http::openapi::{BadQuery, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::UploadView;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameter")]
struct Wait {
    /// Wait until the status is no longer `pending` or `inspecting`, for at most this many seconds.
    #[param(minimum = 0, maximum = 60)]
    wait: Option<u64>,
}

/// Get an upload
///
/// With `wait`, the response is delayed until the upload is no longer `pending` or `inspecting`.
/// HEAD never waits.
#[utoipa::path(get, path = "/api/uploads/{id}", operation_id = "get_upload", tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload"), Wait),
    responses((status = 200, description = "The upload", body = UploadView), BadQuery, NotFound))]
pub async fn handle(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    mut query: Query,
    state: Data<HttpState>,
    request: HttpRequest,
) -> Result<Json<UploadView>, ApiError> {
    let wait = query.value("wait", seconds);
    query.finish()?;
    let upload = match wait {
        // A HEAD request does not wait, so it does not count as a waiting request.
        Some(wait) if !wait.is_zero() && request.method() != Method::HEAD => {
            Box::pin(state.app.wait_for_upload(&caller, id, wait)).await?
        }
        _ => state.app.upload(&caller, id).await?,
    };
    Ok(Json(UploadView::of(upload, &state.app)))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wait = text.parse().ok().map(Duration::from_secs).filter(|wait| *wait <= MAX_WAIT);
    wait.ok_or_else(|| format!("Must be whole seconds from 0 to {}", MAX_WAIT.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn a_wait_is_from_0_to_60_whole_seconds() {
        assert!(["0", "1", "60"].iter().all(|text| seconds(text).is_ok()));
        assert!(["", "-1", "61", "1.5", "x", "1s"].iter().all(|text| seconds(text).is_err()));
    }
}
