//! django-s3-file-field: `/s3ff/upload-initialize/`, `upload-complete/` and `finalize/`.
//!
//! The service determines the size of the parts. The client completes the upload in the store with
//! a signed request, and then sends `finalize`, which verifies the file. `field_value` is the id of
//! the upload, for the back end.

use actix_cors::Cors;
use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::web::{Data, ServiceConfig};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

use super::{Dialect, cors, error_with_message, require_accepted};
use crate::app::multipart::MAX_PARTS_PER_CALL;
use crate::domain::upload::{Declared, Strategy};
use crate::domain::{Scope, UploadId};
use crate::http::HttpState;
use crate::http::extract::{Json, UploadCaller};
use crate::http::family::ApiFamily;
use crate::http::middleware::access::Access::NeedsOrToken;
use crate::http::middleware::request_id::RequestId;
use crate::http::problem::{ApiError, Code};
use crate::http::routes::{Routes, at};

/// The routes of django-s3-file-field.
pub(super) struct S3FileField(pub(super) Dialect);

impl ApiFamily for S3FileField {
    fn prefix(&self) -> &'static str {
        "/s3ff"
    }

    fn register(&self, config: &mut ServiceConfig) {
        config.app_data(Data::new(self.0.clone()));
        let write = NeedsOrToken(Scope::UploadsWrite);
        let mut routes = Routes::default();
        // A slash at the end of a path is ignored.
        at("/upload-initialize").on(&[Method::POST], write, initialize).add_to(&mut routes);
        at("/upload-complete").on(&[Method::POST], write, complete).add_to(&mut routes);
        at("/finalize").on(&[Method::POST], write, finalize).add_to(&mut routes);
        routes.mount(config);
    }

    fn cors(&self, origins: &[String]) -> Cors {
        cors(origins, &["x-csrftoken"], &[])
    }

    fn render(&self, error: &ApiError, _: &RequestId) -> HttpResponse {
        error_with_message(error)
    }
}

/// A new upload. The client also sends `field_id`, which names a field of a Django model. It is
/// ignored, because the policy of the dialect determines the rules.
#[derive(Deserialize)]
struct InitializeBody {
    file_name: String,
    file_size: u64,
    content_type: Option<String>,
}

#[derive(Serialize)]
struct InitializedView {
    object_key: String,
    upload_id: UploadId,
    upload_signature: UploadId,
    parts: Vec<PartView>,
}

#[derive(Serialize)]
struct PartView {
    part_number: u16,
    size: u64,
    upload_url: String,
}

async fn initialize(
    caller: UploadCaller,
    Json(body): Json<InitializeBody>,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let InitializeBody { file_name, file_size, content_type } = body;
    let declared = Declared {
        filename: Some(file_name),
        content_type,
        size: Some(file_size),
        ..Declared::default()
    };
    let mut new = dialect.upload(&caller, declared);
    new.strategy = Some(Strategy::Multipart);
    state.app.require_s3_multipart(caller.principal(), new.policy.as_ref())?;
    let upload = state.app.create_upload(&caller, new).await?.upload;
    let plan = upload.parts().ok_or_else(|| ApiError::new(Code::Internal))?;
    let numbers: Vec<i64> = (1..=i64::from(plan.part_count())).collect();
    let mut parts = Vec::with_capacity(numbers.len());
    for numbers in numbers.chunks(MAX_PARTS_PER_CALL) {
        let ttl = Some(dialect.url_ttl.num_seconds());
        let signed = state.app.sign_parts(&caller, upload.id, numbers, ttl).await?;
        parts.extend(signed.into_iter().map(|part| PartView {
            part_number: part.number,
            size: plan.len_of(part.number).unwrap_or_default(),
            upload_url: part.request.url,
        }));
    }
    Ok(HttpResponse::Ok().json(InitializedView {
        object_key: upload.key.as_str().to_owned(),
        upload_id: upload.id,
        upload_signature: upload.id,
        parts,
    }))
}

#[derive(Deserialize)]
struct CompleteBody {
    upload_signature: UploadId,
    parts: Vec<SentPart>,
}

#[derive(Deserialize)]
struct SentPart {
    part_number: u16,
    etag: String,
}

/// The request that the client sends to the store.
#[derive(Serialize)]
struct CompleteView {
    complete_url: String,
    body: String,
}

async fn complete(
    caller: UploadCaller,
    Json(body): Json<CompleteBody>,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<Json<CompleteView>, ApiError> {
    let id = body.upload_signature;
    let signed = state.app.sign_completion(&caller, id, dialect.url_ttl).await?;
    let mut xml = String::from("<CompleteMultipartUpload>");
    for SentPart { part_number, etag } in body.parts {
        // Only characters of an ETag are kept, because the text is inserted into XML.
        let etag: String =
            etag.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let _ = write!(
            xml,
            "<Part><PartNumber>{part_number}</PartNumber><ETag>\"{etag}\"</ETag></Part>"
        );
    }
    xml.push_str("</CompleteMultipartUpload>");
    Ok(Json(CompleteView { complete_url: signed.url, body: xml }))
}

#[derive(Deserialize)]
struct FinalizeBody {
    upload_signature: UploadId,
}

#[derive(Serialize)]
struct FinalizedView {
    field_value: UploadId,
}

async fn finalize(
    caller: UploadCaller,
    Json(body): Json<FinalizeBody>,
    state: Data<HttpState>,
) -> Result<Json<FinalizedView>, ApiError> {
    let id = body.upload_signature;
    require_accepted(state.app.complete_upload(&caller, id, None).await?)?;
    Ok(Json(FinalizedView { field_value: id }))
}
