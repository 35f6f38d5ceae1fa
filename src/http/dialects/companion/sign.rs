//! `POST /companion/sign`: signs one request that Uppy 6 sends to the store.
//!
//! | method | `uploadId` | `partNumber` | the signed request |
//! | --- | --- | --- | --- |
//! | PUT | no | no | sends the whole file |
//! | POST | no | no | opens a multipart upload in the store |
//! | PUT | yes | yes | sends a part |
//! | GET | yes | no | lists the parts |
//! | POST | yes | no | completes the upload |
//! | DELETE | yes | no | aborts the upload |
//!
//! The first two requests create an upload. Their response contains the upload's key, and the
//! client sends this key in the other requests.

use std::collections::BTreeMap;

use actix_web::web::Data;
use serde::{Deserialize, Serialize};

use crate::app::client_multipart::StoreCall;
use crate::app::create_upload::DividedBy;
use crate::domain::UploadId;
use crate::domain::limits::MAX_PARTS;
use crate::domain::upload::{Declared, Strategy};
use crate::http::HttpState;
use crate::http::dialects::Dialect;
use crate::http::extract::{Json, UploadCaller};
use crate::http::problem::{ApiError, Code};
use crate::storage::SignedRequest;

/// The request that the client wants to send.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignBody {
    method: String,
    key: String,
    upload_id: Option<String>,
    part_number: Option<u16>,
    content_type: Option<String>,
}

/// The signed request.
#[derive(Serialize)]
pub(super) struct SignedView {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
}

impl SignedView {
    fn new(key: Option<&str>, signed: SignedRequest) -> Self {
        Self { url: signed.url, key: key.map(str::to_owned), headers: signed.headers }
    }
}

pub(super) async fn handle(
    caller: UploadCaller,
    Json(body): Json<SignBody>,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<Json<SignedView>, ApiError> {
    let SignBody { method, key, upload_id, part_number, content_type } = body;
    let (opened, call) = match (method.as_str(), upload_id, part_number) {
        ("PUT" | "POST", None, None) => {
            // The client sends the file name as the key.
            let filename = key.rsplit('/').next().map(str::to_owned);
            let declared = Declared { filename, content_type, ..Declared::default() };
            let mut new = dialect.upload(&caller, declared);
            if method == "PUT" {
                new.strategy = Some(Strategy::Put);
            } else {
                new.strategy = Some(Strategy::Multipart);
                new.divided_by = DividedBy::ClientAtStore;
            }
            let created = state.app.create_upload(&caller, new).await?;
            let signed = created.request.ok_or_else(|| ApiError::new(Code::Internal))?;
            return Ok(Json(SignedView::new(Some(created.upload.key.as_str()), signed)));
        }
        ("PUT", Some(opened), Some(number)) => (opened, StoreCall::UploadPart(number)),
        ("GET", Some(opened), None) => (opened, StoreCall::ListParts),
        ("POST", Some(opened), None) => (opened, StoreCall::Complete),
        ("DELETE", Some(opened), None) => (opened, StoreCall::Abort),
        _ => {
            let sentence = "Must be PUT or POST, or with `uploadId` also GET or DELETE; \
                            `partNumber` is for a PUT with `uploadId`";
            return Err(ApiError::field("method", sentence));
        }
    };
    if let StoreCall::UploadPart(number) = call
        && !(1..=MAX_PARTS).contains(&number)
    {
        return Err(ApiError::field("partNumber", format!("Must be from 1 to {MAX_PARTS}")));
    }
    let signed =
        state.app.sign_store_call(&caller, id_in(&key)?, &opened, call, dialect.url_ttl).await?;
    Ok(Json(SignedView::new(None, signed)))
}

/// Returns the upload of a key. A key ends with the upload's id.
fn id_in(key: &str) -> Result<UploadId, ApiError> {
    let id = key.rsplit('/').next().and_then(|id| id.parse().ok());
    id.ok_or_else(|| {
        ApiError::field("key", "Must be the key from the response to the first request")
    })
}
