//! `POST /api/upload-tokens`

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;

use super::body::UploadTokenBody;
use crate::http::HttpState;
use crate::http::extract::{Caller, Idempotent, Json};
use crate::http::openapi::{BadBody, IdempotencyErrors, NotFound};
use crate::http::problem::ApiError;
use crate::http::views::IssuedTokenView;

/// Create an upload token
///
/// An upload token is a credential for a browser or an app without an account. A client with the
/// token creates uploads for you within the limits of the token, and can use only the uploads that
/// the token created. The client sends it as a bearer token, or puts `/t/{token}` before the path
/// of a route. The token is returned only once; the service stores only its hash.
#[utoipa::path(post, path = "/api/upload-tokens", operation_id = "create_upload_token",
    tag = "upload tokens",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII \
            characters. Repeating a request with the same key returns the same token with a new \
            secret, for 24 hours; the previous secret becomes invalid")),
    request_body = UploadTokenBody,
    responses((status = 201, description = "Created, with `token`", body = IssuedTokenView,
        headers(("Cache-Control" = String, description = "no-store"))),
        BadBody, NotFound, IdempotencyErrors))]
pub async fn handle(
    caller: Caller,
    Idempotent { key, body: Json(body) }: Idempotent<Json<UploadTokenBody>>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let (policy, new) = body.parse()?;
    let issued = state.app.create_upload_token(&caller.owner, key.as_ref(), &policy, new).await?;
    Ok(HttpResponse::Created()
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(IssuedTokenView::from(issued)))
}
