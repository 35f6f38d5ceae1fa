//! `/tus/{id}`: PATCH stores bytes, HEAD returns the number of stored bytes, and DELETE ends the
//! upload.

use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};

use super::headers::{
    self, TUS_RESUMABLE, UPLOAD_DEFER_LENGTH, UPLOAD_EXPIRES, UPLOAD_LENGTH, UPLOAD_METADATA,
    UPLOAD_OFFSET, VERSION, has_bytes, http_date, other_media_type, require_version, text,
};
use super::{Refusal, respond};
use crate::app::tus::{Append, Appended};
use crate::domain::{Status, Timestamp, UploadId};
use crate::http::HttpState;
use crate::http::dialects::{Dialect, in_task, number, require_accepted};
use crate::http::extract::file::ChunkBody;
use crate::http::extract::{DirectUploadPermit, Id, UploadCaller};
use crate::http::problem::ApiError;
use crate::telemetry::chain;

type Permit = Result<DirectUploadPermit, ApiError>;

pub(super) async fn patch(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    request: HttpRequest,
    permit: Permit,
    body: ChunkBody,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    respond(append(&caller, id, &request, permit, body, &dialect, &state).await)
}

async fn append(
    caller: &UploadCaller,
    id: UploadId,
    request: &HttpRequest,
    permit: Permit,
    body: ChunkBody,
    dialect: &Data<Dialect>,
    state: &Data<HttpState>,
) -> Result<HttpResponse, Refusal> {
    require_version(request)?;
    let sent = request.headers();
    if !has_bytes(sent) {
        return Err(other_media_type());
    }
    let Some(offset) = number(sent, UPLOAD_OFFSET)? else {
        return Err(ApiError::field(UPLOAD_OFFSET, "Is required").into());
    };
    let (length, checksum) = (number(sent, UPLOAD_LENGTH)?, headers::checksum(sent)?);
    let append = Append { offset, size: body.size, length, checksum, ..Append::default() };
    let appended = receive(caller, id, permit?, append, body, dialect, state).await?;
    Ok(UploadHeaders::from(appended).head(HttpResponse::NoContent()).finish())
}

/// Stores the bytes of a request. Returns an error if the file is complete and was rejected.
pub(super) async fn receive(
    caller: &UploadCaller,
    id: UploadId,
    permit: DirectUploadPermit,
    append: Append,
    body: ChunkBody,
    dialect: &Data<Dialect>,
    state: &Data<HttpState>,
) -> Result<Appended, Refusal> {
    let ChunkBody { bytes, timeout, .. } = body;
    let (app, caller, ttl) = (state.app.clone(), caller.clone(), dialect.url_ttl);
    // Runs as a separate task: if the client disconnects, this handler is dropped, but the received
    // bytes must still be stored.
    let work = async move {
        let _permit = permit;
        app.append(caller.principal(), id, append, bytes, ttl).await
    };
    let appended = match in_task(work).await? {
        Ok(appended) => appended,
        Err(error @ crate::app::AppError::Body(_)) => return Err(timeout.error(error).into()),
        Err(error) => return Err(error.into()),
    };
    accepted(appended)
}

pub(super) async fn head(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    request: HttpRequest,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    respond(offset(&caller, id, &request, &dialect, &state).await)
}

async fn offset(
    caller: &UploadCaller,
    id: UploadId,
    request: &HttpRequest,
    dialect: &Data<Dialect>,
    state: &Data<HttpState>,
) -> Result<HttpResponse, Refusal> {
    require_version(request)?;
    let (app, caller, ttl) = (state.app.clone(), caller.clone(), dialect.url_ttl);
    // Runs as a separate task, so that the lease is released if the client disconnects.
    let work = async move { app.resume_tus(caller.principal(), id, ttl).await };
    let appended = in_task(work).await?.map_err(|error| locked(error.into()))?;
    if appended.upload.status() == Status::Rejected {
        // The offset of a complete file is its length. With it, the client would report success.
        return Err(Refusal::Status(410, "The file was rejected".to_owned()));
    }
    let mut response = UploadHeaders::from(appended).head(HttpResponse::Ok());
    Ok(response.insert_header((CACHE_CONTROL, "no-store")).finish())
}

/// Replaces a temporary error (5xx) of a HEAD request by 423, so that the client tries again. After
/// any other error of HEAD, tus-js-client starts again at the first byte.
fn locked(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Api(error) if error.code().status().is_server_error() => {
            tracing::warn!(
                error = chain(&error),
                "HEAD failed; the client receives 423 and will retry"
            );
            Refusal::Status(423, "Try again later".to_owned())
        }
        refusal => refusal,
    }
}

pub(super) async fn delete(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    request: HttpRequest,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    respond(end(&caller, id, &request, &state).await)
}

async fn end(
    caller: &UploadCaller,
    id: UploadId,
    request: &HttpRequest,
    state: &Data<HttpState>,
) -> Result<HttpResponse, Refusal> {
    require_version(request)?;
    state.app.end_tus(caller.principal(), id).await?;
    Ok(HttpResponse::NoContent().insert_header((TUS_RESUMABLE, VERSION)).finish())
}

/// A POST that names another method in a header.
pub(super) async fn overridden(
    caller: UploadCaller,
    Id(id): Id<UploadId>,
    request: HttpRequest,
    permit: Permit,
    body: ChunkBody,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let method = text(request.headers(), "X-HTTP-Method-Override").unwrap_or_default();
    respond(match method.to_ascii_uppercase().parse().unwrap_or(Method::POST) {
        Method::PATCH => append(&caller, id, &request, permit, body, &dialect, &state).await,
        Method::HEAD => offset(&caller, id, &request, &dialect, &state).await,
        Method::DELETE => end(&caller, id, &request, &state).await,
        _ => {
            let allow = HeaderValue::from_static("HEAD, PATCH, DELETE, OPTIONS");
            Err(ApiError::method_not_allowed(allow).into())
        }
    })
}

/// Returns the upload, unless its file was rejected.
fn accepted(appended: Appended) -> Result<Appended, Refusal> {
    if appended.upload.status() == Status::Pending {
        return Ok(appended);
    }
    let Appended { upload, stored, length, metadata } = appended;
    Ok(Appended { upload: require_accepted(upload)?, stored, length, metadata })
}

/// The headers of a response that describe the state of an upload.
pub(super) struct UploadHeaders {
    stored: u64,
    length: Option<u64>,
    metadata: Option<String>,
    /// `None` if the file is complete.
    expires: Option<Timestamp>,
}

impl From<Appended> for UploadHeaders {
    fn from(appended: Appended) -> Self {
        let Appended { upload, stored, length, metadata } = appended;
        let pending = upload.status() == Status::Pending;
        Self { stored, length, metadata, expires: pending.then_some(upload.url_expires_at) }
    }
}

impl UploadHeaders {
    pub(super) fn head(self, mut response: HttpResponseBuilder) -> HttpResponseBuilder {
        let Self { stored, length, metadata, expires } = self;
        response.insert_header((TUS_RESUMABLE, VERSION));
        response.insert_header((UPLOAD_OFFSET, stored));
        match length {
            Some(length) => response.insert_header((UPLOAD_LENGTH, length)),
            None => response.insert_header((UPLOAD_DEFER_LENGTH, "1")),
        };
        if let Some(expires) = expires {
            response.insert_header((UPLOAD_EXPIRES, http_date(expires)));
        }
        if let Some(metadata) = metadata {
            response.insert_header((UPLOAD_METADATA, metadata));
        }
        response
    }
}
