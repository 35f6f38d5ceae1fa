//! `PUT /up/{id}`

use actix_web::http::header::{CACHE_CONTROL, CONTENT_LENGTH, LOCATION};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use crate::domain::UploadId;
use crate::http::HttpState;
use crate::http::extract::{Id, Query, UnreadBody, UploadCaller};
use crate::http::openapi::{Conflict, NotFound, NotRedirected};
use crate::http::problem::ApiError;

const TEXT: &str = "Send the file to the URL in Location.\n";

/// Redirect an upload's file to a newly signed URL
///
/// Use this in native clients that need a URL with a longer lifetime than a signed URL of the
/// store. The response redirects to a signed URL of the store, and the client sends the file there.
/// Works only for pending and expired uploads of the strategy `put`. The request must have the
/// `headers` that the creation of the upload returned, because the client sends the same headers
/// after the redirect. The service discards this body. Browsers send the whole file twice.
#[utoipa::path(put, path = "/up/{id}", operation_id = "redirect_upload", tag = "uploads",
    params(("id" = uuid::Uuid, Path, description = "The upload")),
    request_body(description = "The file", content((String = "application/octet-stream"))),
    responses((status = 307, description = "The URL in `Location`", headers(
            ("Location" = String, description = "The signed URL"),
            ("Cache-Control" = String, description = "no-store"))),
        NotRedirected, NotFound, Conflict))]
pub async fn handle(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    query: Query,
    body: UnreadBody,
    request: HttpRequest,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let length = header(CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok());
    let is_sent = |name: &str, value: &str| header(name) == Some(value);
    let signed = state.app.redirect_upload(&caller, id, length, is_sent).await?;
    let mut response = HttpResponse::TemporaryRedirect();
    response.insert_header((LOCATION, signed.url)).insert_header((CACHE_CONTROL, "no-store"));
    Ok(body.respond(response, TEXT))
}
