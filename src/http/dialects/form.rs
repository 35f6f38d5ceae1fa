//! `POST /form`: a form with one file, from a page without a script or from Dropzone.
//!
//! The file passes through this service. The part of the form that contains the file has the name
//! `file`. Forms of clients that split files are refused: see [`partial`](crate::http::extract).

use actix_cors::Cors;
use actix_web::http::Method;
use actix_web::http::header::LOCATION;
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpResponse, rt};
use tracing::Instrument as _;

use super::{Dialect, cors, error_sentence};
use crate::app::direct_upload::SentFile;
use crate::domain::Scope;
use crate::domain::upload::Declared;
use crate::http::HttpState;
use crate::http::extract::{Digests, DirectUploadPermit, FileBody, Links, UploadCaller};
use crate::http::family::ApiFamily;
use crate::http::middleware::access::Access::NeedsOrToken;
use crate::http::middleware::request_id::RequestId;
use crate::http::problem::{ApiError, Code};
use crate::http::routes::{Routes, at};
use crate::http::views::UploadView;

/// The route of forms.
pub(super) struct Form(pub(super) Dialect);

impl ApiFamily for Form {
    fn prefix(&self) -> &'static str {
        "/form"
    }

    fn register(&self, config: &mut ServiceConfig) {
        config.app_data(Data::new(self.0.clone()));
        let mut routes = Routes::default();
        at("").on(&[Method::POST], NeedsOrToken(Scope::UploadsWrite), handle).add_to(&mut routes);
        routes.mount(config);
    }

    fn cors(&self, origins: &[String]) -> Cors {
        cors(origins, &[], &[])
    }

    /// Dropzone shows the text of the member `error`.
    fn render(&self, error: &ApiError, _: &RequestId) -> HttpResponse {
        error_sentence(error)
    }
}

async fn handle(
    (caller, permit): (UploadCaller, DirectUploadPermit),
    Digests(digests): Digests,
    body: FileBody,
    links: Links,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let FileBody { filename, content_type, length, bytes, timeout } = body;
    let Some(filename) = filename else {
        let sentence = "Send a multipart/form-data form with a part `file` that has a filename";
        return Err(ApiError::field("file", sentence));
    };
    let new = dialect.upload(&caller, Declared { filename: Some(filename), ..Declared::default() });
    let sent = SentFile { content_type, length, digests };
    // Runs as a separate task: if the client disconnects, this handler is dropped, but the upload
    // must still be ended.
    let app = state.app.clone();
    let work = async move {
        let _permit = permit;
        app.receive_file(caller.principal(), new, sent, bytes).await
    };
    let stored = rt::spawn(work.in_current_span()).await;
    let stored = stored.map_err(|error| ApiError::new(Code::Internal).because(error))?;
    let upload = stored.map_err(|error| timeout.error(error))?;
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, links.upload(upload.id)))
        .json(UploadView::of(upload, &state.app)))
}
