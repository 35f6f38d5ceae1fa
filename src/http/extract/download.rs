//! The options of a download, and its response.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use utoipa::{IntoParams, IntoResponses};

use super::{Query, text};
use crate::http::middleware::accept::Produces;
use crate::http::problem::ApiError;
use crate::http::views::FileUrlView;
use crate::storage::signer::SignedRequest;

/// The parameters of a [`Download`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameter")]
pub struct DownloadParams {
    /// `false` returns the URL instead of a redirect.
    #[param(default = true)]
    redirect: Option<bool>,
}

/// The responses of a [`Download`] that succeeded.
#[derive(IntoResponses)]
pub enum DownloadResponses {
    /// The URL, with `redirect=false`
    #[response(status = 200, headers(("Cache-Control" = String, description = "no-store")))]
    Url(FileUrlView),
    /// The URL in `Location`
    #[response(status = 307, headers(("Location" = String, description = "The signed URL"),
        ("Cache-Control" = String, description = "no-store")))]
    Redirect,
}

/// How the client wants to get the URL of a file. This extractor refuses unknown parameters, so a
/// handler must not read other parameters.
pub struct Download {
    redirect: bool,
}

impl FromRequest for Download {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Query::from_request(request, payload).into_inner().and_then(|mut query| {
            let redirect = query.value("redirect", text::flag).unwrap_or(true);
            query.finish()?;
            if !redirect {
                Produces::Json.check(request.headers())?;
            }
            Ok(Self { redirect })
        }))
    }
}

impl Download {
    /// The signed URL as a redirect, or as JSON.
    pub fn response(self, signed: SignedRequest) -> HttpResponse {
        if self.redirect {
            let mut response = HttpResponse::TemporaryRedirect();
            response.insert_header((CACHE_CONTROL, "no-store"));
            return response.insert_header((LOCATION, signed.url)).finish();
        }
        let mut response = HttpResponse::Ok();
        response.insert_header((CACHE_CONTROL, "no-store")).json(FileUrlView::from(signed))
    }
}
