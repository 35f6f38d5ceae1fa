//! Files that are sent in chunks (`chunkUploads: true`). They are uploads with the strategy `tus`.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderMap};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::{UPLOAD_LENGTH, UPLOAD_OFFSET, plain_text, read_id};
use crate::app::tus::Append;
use crate::domain::upload::Declared;
use crate::domain::{Status, UploadId};
use crate::http::HttpState;
use crate::http::dialects::{Dialect, in_task, number, require_accepted};
use crate::http::extract::file::ChunkBody;
use crate::http::extract::{DirectUploadPermit, Query, UploadCaller};
use crate::http::problem::ApiError;

/// The length of a file that follows in chunks. `None` if the request contains the whole file.
pub(super) fn announced(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    match number(headers, UPLOAD_LENGTH)? {
        Some(0) => Err(ApiError::field(UPLOAD_LENGTH, "File is empty")),
        length => Ok(length),
    }
}

/// Creates the upload, and returns its id. The client sends the file name only with the chunks, so
/// the upload has no name.
pub(super) async fn create(
    caller: &UploadCaller,
    length: u64,
    dialect: &Dialect,
    state: &HttpState,
) -> Result<HttpResponse, ApiError> {
    let mut new = dialect.upload(caller, Declared { size: Some(length), ..Declared::default() });
    new.write_once = None;
    let created = state.app.create_tus(caller.principal(), new, None).await?;
    Ok(plain_text(&mut HttpResponse::Created()).body(created.upload.id.to_string()))
}

/// Stores a chunk. Bytes that are already stored are skipped, because a client that did not receive
/// the response to a chunk sends the whole chunk again.
pub(super) async fn append(
    caller: UploadCaller,
    query: Query,
    request: HttpRequest,
    permit: DirectUploadPermit,
    body: ChunkBody,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let id = patched(query)?;
    let Some(offset) = number(request.headers(), UPLOAD_OFFSET)? else {
        return Err(ApiError::field(UPLOAD_OFFSET, "Is required"));
    };
    let ChunkBody { size, bytes, timeout } = body;
    let length = number(request.headers(), UPLOAD_LENGTH)?;
    let append = Append { offset, size, length, skips_stored: true, ..Append::default() };
    let (app, ttl) = (state.app.clone(), dialect.url_ttl);
    // If the client disconnects, the received bytes must still be stored.
    let work = async move {
        let _permit = permit;
        app.append(caller.principal(), id, append, bytes, ttl).await
    };
    let appended = in_task(work).await?.map_err(|error| timeout.error(error))?;
    let stored = appended.stored;
    if appended.upload.status() != Status::Pending {
        require_accepted(appended.upload)?;
    }
    let mut response = HttpResponse::build(StatusCode::NO_CONTENT);
    Ok(response.insert_header((UPLOAD_OFFSET, stored)).finish())
}

/// Returns the number of stored bytes.
pub(super) async fn offset(
    caller: UploadCaller,
    query: Query,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let id = patched(query)?;
    let (app, ttl) = (state.app.clone(), dialect.url_ttl);
    // Runs as a separate task, so that the upload does not stay locked if the client disconnects.
    let work = async move { app.resume_tus(caller.principal(), id, ttl).await };
    let found = in_task(work).await??;
    Ok(HttpResponse::Ok()
        .insert_header((UPLOAD_OFFSET, found.stored))
        .insert_header((CACHE_CONTROL, "no-store"))
        .finish())
}

/// The upload of `?patch=ID`.
fn patched(mut query: Query) -> Result<UploadId, ApiError> {
    let id = query.text("patch");
    query.finish()?;
    let id = id.ok_or_else(|| ApiError::field("patch", "Must be the id of an upload"))?;
    read_id("patch", &id)
}
