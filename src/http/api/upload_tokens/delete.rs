//! `DELETE /api/upload-tokens/{id}`

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::domain::UploadTokenId;
use crate::http::HttpState;
use crate::http::extract::{Caller, Id};
use crate::http::openapi::NotFound;
use crate::http::problem::ApiError;

/// Revoke an upload token
///
/// Within one second, all processes refuse the token with 401. The uploads that it created do not
/// change, and URLs that were signed for them stay valid until they expire.
#[utoipa::path(delete, path = "/api/upload-tokens/{id}", operation_id = "revoke_upload_token",
    tag = "upload tokens",
    params(("id" = uuid::Uuid, Path, description = "The token's id")),
    responses((status = 204, description = "The token is revoked"), NotFound))]
pub async fn handle(
    caller: Caller,
    Id(id): Id<UploadTokenId>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.app.revoke_upload_token(&caller.owner, id).await?;
    Ok(HttpResponse::NoContent().finish())
}
