//! `GET /api/attachments/{subject}/file`

use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use crate::http::HttpState;
use crate::http::extract::{Caller, Query, SubjectPath, text};
use crate::http::middleware::accept::Produces;
use crate::http::openapi::{BadQuery, FilePending, NotAcceptable, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::FileUrlView;

/// Download the file of a subject
///
/// Redirects to a signed URL of the store. Only verified files are served.
#[utoipa::path(get, path = "/api/attachments/{subject}/file",
    operation_id = "get_attachment_file", tag = "attachments",
    params(("subject" = String, Path, description = "The subject", min_length = 1,
            max_length = 200, pattern = "^[A-Za-z0-9._~:@-]+$"),
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
    SubjectPath(subject): SubjectPath,
    mut query: Query,
    state: Data<HttpState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let redirect = query.value("redirect", text::flag).unwrap_or(true);
    query.finish()?;
    if !redirect {
        Produces::Json.check(request.headers())?;
    }
    let signed = state.app.attachment_file(&caller.owner, &subject).await?;
    if redirect {
        let mut response = HttpResponse::TemporaryRedirect();
        response.insert_header((CACHE_CONTROL, "no-store"));
        return Ok(response.insert_header((LOCATION, signed.url)).finish());
    }
    let mut response = HttpResponse::Ok();
    Ok(response.insert_header((CACHE_CONTROL, "no-store")).json(FileUrlView::from(signed)))
}
