//! URLs of this service in responses.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};

use crate::domain::UploadId;
use crate::http::middleware::token_prefix::PathToken;
use crate::http::problem::{ApiError, Code};
use crate::http::state::SecurityConfig;

/// Makes URLs of this service. If the path of the request has the prefix `/t/{token}`, the URLs
/// have it too, because such a client cannot send a token in a header.
#[derive(Debug, Clone, Default)]
pub struct Links {
    base: String,
    prefix: String,
}

impl Links {
    /// The URL of a path of a dialect: absolute if `server.public_url` is configured, otherwise a
    /// path.
    pub fn absolute(&self, path: &str) -> String {
        format!("{}{}{path}", self.base, self.prefix)
    }

    /// The path of an upload.
    pub fn upload(&self, id: UploadId) -> String {
        format!("{}/api/uploads/{id}", self.prefix)
    }

    /// The URL of the file of an upload: absolute if `server.public_url` is configured, otherwise a
    /// path.
    pub fn upload_file(&self, id: UploadId) -> String {
        format!("{}{}/file", self.base, self.upload(id))
    }

    /// The URL to which the file of a direct upload is sent: absolute if `server.public_url` is
    /// configured, otherwise a path.
    pub fn upload_content(&self, id: UploadId) -> String {
        format!("{}{}/content", self.base, self.upload(id))
    }
}

impl FromRequest for Links {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let security = request.app_data::<Data<SecurityConfig>>();
        let prefix = request.extensions().get::<PathToken>().map(PathToken::prefix);
        let prefix = prefix.unwrap_or_default();
        let links =
            |security: &Data<SecurityConfig>| Self { base: security.public_url.clone(), prefix };
        ready(security.map(links).ok_or_else(|| ApiError::new(Code::Internal)))
    }
}
