//! `POST /tus`: creates an upload, and may contain its first bytes. `OPTIONS /tus`: lists what the
//! server supports.

use actix_web::http::header::LOCATION;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::append::{UploadHeaders, receive};
use super::headers::{
    self, EXTENSIONS, Metadata, TUS_EXTENSION, TUS_RESUMABLE, TUS_VERSION, UPLOAD_CONCAT,
    UPLOAD_DEFER_LENGTH, UPLOAD_LENGTH, VERSION, has_bytes, other_media_type, require_version,
    text,
};
use super::{Refusal, respond};
use crate::app::create_upload::NewUpload;
use crate::app::tus::Append;
use crate::domain::tus::PieceAlgorithm;
use crate::domain::upload::Declared;
use crate::http::HttpState;
use crate::http::dialects::{Dialect, number, storable};
use crate::http::extract::file::ChunkBody;
use crate::http::extract::{DirectUploadPermit, Links, UploadCaller};
use crate::http::problem::ApiError;

pub(super) async fn options(
    caller: UploadCaller,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let most = state.app.largest_file(caller.principal(), Some(&dialect.policy))?;
    let algorithms = PieceAlgorithm::ALL.map(PieceAlgorithm::name).join(",");
    Ok(HttpResponse::NoContent()
        .insert_header((TUS_RESUMABLE, VERSION))
        .insert_header((TUS_VERSION, VERSION))
        .insert_header((TUS_EXTENSION, EXTENSIONS))
        .insert_header(("Tus-Max-Size", most))
        .insert_header(("Tus-Checksum-Algorithm", algorithms))
        .finish())
}

pub(super) async fn handle(
    caller: UploadCaller,
    request: HttpRequest,
    permit: Result<DirectUploadPermit, ApiError>,
    body: ChunkBody,
    links: Links,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    // The future is boxed because it is large: it also contains the request with the first bytes.
    respond(Box::pin(create(caller, request, permit, body, links, dialect, state)).await)
}

async fn create(
    caller: UploadCaller,
    request: HttpRequest,
    permit: Result<DirectUploadPermit, ApiError>,
    body: ChunkBody,
    links: Links,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<HttpResponse, Refusal> {
    require_version(&request)?;
    let sent = request.headers();
    if sent.contains_key(UPLOAD_CONCAT) {
        let sentence = "Concatenation is not supported; set parallelUploads to 1";
        return Err(Refusal::Status(501, sentence.to_owned()));
    }
    let length = length(&request)?;
    let mut metadata = Metadata::read(sent)?;
    let checksum = headers::checksum(sent)?;
    let has_bytes = has_bytes(sent);
    if !has_bytes && body.size.is_some_and(|size| size > 0) {
        return Err(other_media_type());
    }
    let app = state.app.clone();
    let most = app.largest_file(caller.principal(), Some(&dialect.policy))?;
    if length.is_some_and(|length| length > most) {
        let sentence = format!("The file may have at most {most} bytes");
        return Err(Refusal::Status(413, sentence));
    }
    let permit = if has_bytes { Some(permit?) } else { None };
    let declared = Declared {
        filename: metadata.take(&["filename", "name"]),
        content_type: metadata.take(&["filetype", "type"]),
        size: length,
        ..Declared::default()
    };
    let new = dialect.upload(&caller, declared);
    let pairs = storable(std::mem::take(&mut metadata.pairs));
    let new = NewUpload { metadata: pairs, write_once: None, ..new };
    let mut created = app.create_tus(caller.principal(), new, metadata.raw).await?;
    let id = created.upload.id;
    if let Some(permit) = permit {
        let append = Append { size: body.size, checksum, ..Append::default() };
        let received = receive(&caller, id, permit, append, body, &dialect, &state).await;
        match received {
            Ok(appended) => created = appended,
            Err(refusal) => {
                // The client does not know the URL of the upload, so it can only create a new one.
                if let Err(error) = app.delete_upload(caller.principal(), id).await {
                    tracing::warn!(upload = %id, error = &error as &dyn std::error::Error,
                        "a refused upload could not be cancelled; it will expire");
                }
                return Err(refusal);
            }
        }
    }
    let mut response = UploadHeaders::from(created).head(HttpResponse::Created());
    Ok(response.insert_header((LOCATION, links.absolute(&format!("/tus/{id}")))).finish())
}

/// The length of the file. `None` if the client declares it later.
fn length(request: &HttpRequest) -> Result<Option<u64>, Refusal> {
    let sent = request.headers();
    match (number(sent, UPLOAD_LENGTH)?, text(sent, UPLOAD_DEFER_LENGTH)) {
        (Some(length), None) => Ok(Some(length)),
        (None, Some("1")) => Ok(None),
        _ => {
            let sentence = "Send either Upload-Length or Upload-Defer-Length: 1";
            Err(ApiError::field(UPLOAD_LENGTH, sentence).into())
        }
    }
}
