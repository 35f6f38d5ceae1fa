//! `GET /companion/s3/params`: creates an upload whose file the client sends in one request.

use std::collections::BTreeMap;

use actix_web::web::Data;
use serde::Serialize;

use crate::domain::upload::{Declared, Strategy};
use crate::http::HttpState;
use crate::http::dialects::{Dialect, storable};
use crate::http::extract::{Json, Query, UploadCaller};
use crate::http::problem::{ApiError, Code};

/// A request that the client sends to the store.
#[derive(Serialize)]
pub(super) struct Params {
    method: &'static str,
    url: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    /// The fields of a form. For a PUT, only the key, because the client reads it from here.
    fields: BTreeMap<String, String>,
    /// The lifetime in seconds.
    expires: i64,
}

pub(super) async fn handle(
    caller: UploadCaller,
    mut query: Query,
    dialect: Data<Dialect>,
    state: Data<HttpState>,
) -> Result<Json<Params>, ApiError> {
    let filename = query.text("filename").filter(|name| !name.trim().is_empty());
    let content_type = query.text("type");
    let metadata = storable(query.members("metadata"));
    query.ignore_others()?;
    let Some(filename) = filename else {
        return Err(ApiError::field("filename", "Is required"));
    };
    let declared = Declared { filename: Some(filename), content_type, ..Declared::default() };
    let mut new = dialect.upload(&caller, declared);
    new.metadata = metadata;
    new.with_location = true;
    let takes_forms = state.app.takes_forms(caller.principal(), new.policy.as_ref())?;
    new.strategy = Some(if takes_forms { Strategy::Post } else { Strategy::Put });
    let created = state.app.create_upload(&caller, new).await?;
    let request = created.request.ok_or_else(|| ApiError::new(Code::Internal))?;
    let key = || [("key".to_owned(), created.upload.key.as_str().to_owned())].into();
    let lifetime = request.expires_at - created.upload.created_at;
    Ok(Json(Params {
        method: request.method,
        url: request.url,
        headers: request.headers,
        fields: request.fields.map_or_else(key, |fields| fields.into_iter().collect()),
        expires: lifetime.num_seconds(),
    }))
}
