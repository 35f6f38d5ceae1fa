//! `GET /api/uploads`

use actix_web::web::Data;
use chrono::{DateTime, Utc};
use utoipa::IntoParams;

use crate::db::uploads::{UPLOAD_ORDER, UploadFilter};
use crate::domain::subject::SubjectError;
use crate::domain::{PolicyName, Status, Subject};
use crate::http::HttpState;
use crate::http::extract::{Json, Query, UploadCaller, text};
use crate::http::openapi::{BadQuery, PagingParams};
use crate::http::problem::ApiError;
use crate::http::views::{PageView, StatusName, UploadView};

/// The filters.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameters")]
struct Filters {
    /// Uploads with this status.
    #[param(inline)]
    status: Option<StatusName>,
    /// Uploads of this track.
    track_id: Option<uuid::Uuid>,
    /// Uploads that are attached to this subject.
    #[param(min_length = 1, max_length = 200, pattern = "^[A-Za-z0-9._~:@-]+$")]
    attach_to: Option<String>,
    /// Uploads with this policy.
    policy: Option<String>,
    /// Uploads created before this time.
    created_before: Option<DateTime<Utc>>,
    /// Uploads created at or after this time.
    created_after: Option<DateTime<Utc>>,
}

/// List uploads, newest first
#[utoipa::path(get, path = "/api/uploads", operation_id = "list_uploads", tag = "uploads",
    params(Filters, PagingParams),
    responses((status = 200, description = "A page of uploads", body = PageView<UploadView>),
        BadQuery))]
pub async fn handle(
    caller: UploadCaller,
    query: Query,
    state: Data<HttpState>,
) -> Result<Json<PageView<UploadView>>, ApiError> {
    let cursor_key = query.cursor_key();
    let page = state.app.list_uploads(&caller, &filter(query)?).await?;
    Ok(Json(PageView::of(page, |upload| UploadView::of(upload, &state.app), &cursor_key)))
}

fn filter(mut query: Query) -> Result<UploadFilter, ApiError> {
    let paging = query.paging(UPLOAD_ORDER, |value| text::timestamp(value).is_ok());
    let filter = UploadFilter {
        status: query.value("status", text::one_of(Status::ALL.into_iter().map(Status::name))),
        subject: subject(&mut query),
        // The use case sets this filter.
        token: None,
        policy: query.text("policy").map(PolicyName::new),
        created_before: query.value("created_before", text::timestamp),
        created_after: query.value("created_after", text::timestamp),
        cursor: paging.cursor,
        limit: paging.limit,
    };
    query.finish()?;
    Ok(filter)
}

/// `attach_to`, or `track_id` as a subject. If both are given, `attach_to` is used.
fn subject(query: &mut Query) -> Option<Subject> {
    let track = query.value("track_id", text::id).map(Subject::of_track);
    let read = |text: &str| text.parse().map_err(|error: SubjectError| error.to_string());
    query.value("attach_to", read).or(track)
}
