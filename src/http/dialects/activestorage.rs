//! Rails `ActiveStorage`: `POST /activestorage/direct_uploads`, for `DirectUpload` of
//! `@rails/activestorage`.
//!
//! The client sends the MD5 of the file, which the store checks. It then sends the file with
//! exactly the headers of the response. `signed_id` is the id of the upload. The back end confirms
//! the upload, which verifies the file, and attaches it with `PUT /api/attachments/{subject}`.

use actix_cors::Cors;
use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::web::{Data, ServiceConfig};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

use super::{Dialect, cors, error_sentence};
use crate::domain::Scope;
use crate::domain::checksum::{Algorithm, Checksum};
use crate::domain::upload::{Declared, Strategy};
use crate::http::HttpState;
use crate::http::extract::{Json, UploadCaller};
use crate::http::family::ApiFamily;
use crate::http::middleware::access::Access::NeedsOrToken;
use crate::http::middleware::request_id::RequestId;
use crate::http::problem::{ApiError, Code};
use crate::http::routes::{Routes, at};

/// The routes of `ActiveStorage`.
pub(super) struct ActiveStorage(pub(super) Dialect);

impl ApiFamily for ActiveStorage {
    fn prefix(&self) -> &'static str {
        "/activestorage"
    }

    fn register(&self, config: &mut ServiceConfig) {
        config.app_data(Data::new(self.0.clone()));
        let mut routes = Routes::default();
        at("/direct_uploads")
            .on(&[Method::POST], NeedsOrToken(Scope::UploadsWrite), create)
            .add_to(&mut routes);
        routes.mount(config);
    }

    fn cors(&self, origins: &[String]) -> Cors {
        cors(origins, &["x-csrf-token"], &[])
    }

    fn render(&self, error: &ApiError, _: &RequestId) -> HttpResponse {
        error_sentence(error)
    }
}

/// `{"blob": {...}}`
#[derive(Deserialize)]
struct Body {
    blob: BlobBody,
}

#[derive(Deserialize)]
struct BlobBody {
    filename: String,
    content_type: Option<String>,
    byte_size: u64,
    /// The MD5 as base64.
    checksum: String,
    #[serde(default)]
    metadata: Map<String, Value>,
}

/// The blob in the format of Rails.
#[derive(Serialize)]
struct BlobView {
    id: String,
    key: String,
    filename: String,
    content_type: Option<String>,
    metadata: Map<String, Value>,
    service_name: &'static str,
    byte_size: u64,
    checksum: String,
    created_at: DateTime<Utc>,
    signed_id: String,
    direct_upload: DirectUpload,
}

/// The request that the client sends next.
#[derive(Serialize)]
struct DirectUpload {
    url: String,
    headers: BTreeMap<String, String>,
}

async fn create(
    caller: UploadCaller,
    Json(Body { blob }): Json<Body>,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let BlobBody { filename, content_type, byte_size, checksum, metadata } = blob;
    let md5 = Checksum::parse(Algorithm::Md5, &checksum);
    let md5 = md5.map_err(|error| ApiError::field("blob.checksum", error.to_string()))?;
    let declared = Declared {
        filename: Some(filename.clone()),
        content_type: content_type.clone(),
        size: Some(byte_size),
        checksum: Some(md5),
        ..Declared::default()
    };
    let mut new = dialect.upload(&caller, declared);
    new.strategy = Some(Strategy::Put);
    let created = state.app.create_upload(&caller, new).await?;
    let request = created.request.ok_or_else(|| ApiError::new(Code::Internal))?;
    let id = created.upload.id.to_string();
    Ok(HttpResponse::Ok().json(BlobView {
        id: id.clone(),
        key: created.upload.key.as_str().to_owned(),
        filename,
        content_type,
        metadata,
        service_name: "upload-coordinator",
        byte_size,
        checksum,
        created_at: created.upload.created_at,
        signed_id: id,
        direct_upload: DirectUpload { url: request.url, headers: request.headers },
    }))
}
