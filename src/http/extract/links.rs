//! URLs of this service in responses.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};

use crate::domain::UploadId;
use crate::http::problem::{ApiError, Code};
use crate::http::state::SecurityConfig;

/// Makes URLs of this service: absolute if `server.public_url` is configured, otherwise paths.
#[derive(Debug, Clone, Default)]
pub struct Links {
    base: String,
}

impl Links {
    /// The URL to which the file of a direct upload is sent.
    pub fn upload_content(&self, id: UploadId) -> String {
        format!("{}/api/uploads/{id}/content", self.base)
    }
}

impl FromRequest for Links {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let security = request.app_data::<Data<SecurityConfig>>();
        let links = |security: &Data<SecurityConfig>| Self { base: security.public_url.clone() };
        ready(security.map(links).ok_or_else(|| ApiError::new(Code::Internal)))
    }
}
