//! `FilePond`: the routes of its option `server`.
//!
//! | request | does |
//! | --- | --- |
//! | `POST /filepond` | a form with one file → the id of the upload as text |
//! | `POST /filepond` with `Upload-Length` | creates an upload whose file follows in chunks → its id |
//! | `PATCH /filepond?patch=ID` | stores a chunk; the last one completes and verifies the file |
//! | `HEAD /filepond?patch=ID` | returns the number of stored bytes |
//! | `DELETE /filepond`, the id as body | deletes the upload |
//! | `GET /filepond?restore=ID` or `?load=ID` | returns the file |
//!
//! The file passes through this service. The part with the file may have any name. Before it,
//! `FilePond` sends a part of the same name that contains metadata. The body of an error response
//! is one sentence as plain text. A page shows it with
//! `process: { onerror: (sentence) => sentence }`. The service does not fetch files from other
//! servers (`?fetch=URL`).

use actix_cors::Cors;
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::web::{Data, ServiceConfig};
use actix_web::{FromRequest, HttpRequest, HttpResponse, body::SizedStream, dev::Payload};
use std::pin::Pin;

use super::{Dialect, cors, in_task, sentence};
use crate::app::direct_upload::SentFile;
use crate::domain::upload::Declared;
use crate::domain::{Scope, UploadId};
use crate::http::HttpState;
use crate::http::extract::file::FilePart;
use crate::http::extract::{
    Digests, DirectUploadPermit, FileBody, Query, TextBody, UploadCaller, text,
};
use crate::http::family::ApiFamily;
use crate::http::middleware::accept::Produces;
use crate::http::middleware::access::Access::NeedsOrToken;
use crate::http::middleware::request_id::RequestId;
use crate::http::problem::{ApiError, response_head};
use crate::http::routes::{Routes, at};

mod chunks;

/// Header with the length of a file that follows in chunks.
const UPLOAD_LENGTH: &str = "upload-length";

/// Header with the offset of a chunk, or with the number of stored bytes.
const UPLOAD_OFFSET: &str = "upload-offset";

/// The routes of `FilePond`.
pub(super) struct FilePond(pub(super) Dialect);

impl ApiFamily for FilePond {
    fn prefix(&self) -> &'static str {
        "/filepond"
    }

    fn register(&self, config: &mut ServiceConfig) {
        config.app_data(Data::new(self.0.clone()));
        let (read, write) = (NeedsOrToken(Scope::UploadsRead), NeedsOrToken(Scope::UploadsWrite));
        let mut routes = Routes::default();
        at("")
            // The client's XHR accepts every type, and a page may also load the file in other ways.
            .producing(Produces::Any)
            .on(&[Method::POST], write, process)
            .on(&[Method::PATCH], write, chunks::append)
            .on(&[Method::HEAD], write, chunks::offset)
            .on(&[Method::DELETE], write, revert)
            .on(&[Method::GET], read, load)
            .add_to(&mut routes);
        routes.mount(config);
    }

    fn cors(&self, origins: &[String]) -> Cors {
        let sent = [UPLOAD_LENGTH, "upload-name", UPLOAD_OFFSET];
        cors(origins, &sent, &["content-disposition", UPLOAD_OFFSET])
    }

    /// The page receives the text of the response.
    fn render(&self, error: &ApiError, _: &RequestId) -> HttpResponse {
        plain_text(&mut response_head(error)).body(sentence(error))
    }
}

fn plain_text(
    response: &mut actix_web::HttpResponseBuilder,
) -> &mut actix_web::HttpResponseBuilder {
    response.insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"))
}

/// What the body of `POST` contains.
enum Sent {
    Whole(FileBody),
    /// The length of a file that follows in chunks.
    Announced(u64),
}

impl FromRequest for Sent {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let announced = chunks::announced(request.headers());
        let body = FileBody::receive(request, payload, FilePart::WithFilename);
        Box::pin(async move {
            // The form for a file in chunks contains only metadata.
            match announced? {
                Some(length) => Ok(Self::Announced(length)),
                None => body.await.map(Self::Whole),
            }
        })
    }
}

async fn process(
    (caller, permit): (UploadCaller, DirectUploadPermit),
    Digests(digests): Digests,
    sent: Sent,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let body = match sent {
        Sent::Whole(body) => body,
        Sent::Announced(length) => {
            return chunks::create(&caller, length, &dialect, &state).await;
        }
    };
    let FileBody { filename, content_type, length, bytes, timeout } = body;
    let Some(filename) = filename else {
        return Err(ApiError::field("file", "Send a form with one file that has a filename"));
    };
    let new = dialect.upload(&caller, Declared { filename: Some(filename), ..Declared::default() });
    let sent = SentFile { content_type, length, digests };
    let app = state.app.clone();
    // If the client disconnects, the upload must still be ended.
    let work = async move {
        let _permit = permit;
        app.receive_file(caller.principal(), new, sent, bytes).await
    };
    let upload = in_task(work).await?.map_err(|error| timeout.error(error))?;
    Ok(plain_text(&mut HttpResponse::Created()).body(upload.id.to_string()))
}

async fn revert(
    caller: UploadCaller,
    TextBody(id): TextBody,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.app.delete_upload(&caller, read_id("id", &id)?).await?;
    Ok(HttpResponse::Ok().finish())
}

async fn load(
    caller: UploadCaller,
    mut query: Query,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    if query.text("fetch").is_some() {
        let sentence = "The service does not fetch files from other servers";
        return Err(ApiError::field("fetch", sentence));
    }
    let (restore, load) = (query.text("restore"), query.text("load"));
    query.finish()?;
    let id = restore
        .or(load)
        .ok_or_else(|| ApiError::field("restore", "Must be the id of an upload"))?;
    let file = state.app.read_file(&caller, read_id("restore", &id)?).await?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, file.content_type))
        .insert_header((CONTENT_DISPOSITION, file.content_disposition))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(SizedStream::new(file.size, file.bytes)))
}

fn read_id(field: &str, text: &str) -> Result<UploadId, ApiError> {
    text::id(text.trim()).map_err(|sentence| ApiError::field(field, sentence))
}
